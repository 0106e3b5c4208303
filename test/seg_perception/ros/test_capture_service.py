"""`~/save_capture` on the real node: what went in and out is in a file that every tool of this repository opens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_perception.bag.frames import FrameSource
from seg_perception.bag.reader import open_bag
from seg_perception.cli import main
from test.seg_perception.node_process import ANSWER_S, Camera, NodeProcess
from test.seg_perception.node_services import call_trigger, set_parameter
from test.seg_perception.tiny_model import INPUT_SIZE, write_tiny_model
from test.seg_perception.waiting import wait_until

TOPIC = "/kept/image"
PICTURE = np.random.default_rng(0).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("captures")


@pytest.fixture(scope="module")
def process(ros_environment, folder) -> Iterator[NodeProcess]:
    """A node that keeps nothing yet."""
    process = NodeProcess(
        ros_environment,
        "keeper",
        model=write_tiny_model(folder.parent / "m.onnx"),
        image=TOPIC,
        engine="onnxruntime",
        capture_folder=folder / "new",
        capture_pause_s=2.0,
        capture_files=1,
        diagnostics_period_s=0.2,
    )
    process.wait_for("active: listening to")
    yield process
    assert process.stop() == 0, process.lines[-20:]


@pytest.fixture
def camera(process, ros_node) -> Camera:
    camera = Camera(ros_node, TOPIC, "keeper", outputs=("labels", "confidence", "superpixels"))
    camera.connect()
    return camera


def turn(ros_node: Any, on: bool) -> None:
    """The capture on or off, as `ros2 param set` does while the node runs."""
    assert set_parameter(ros_node, "keeper", "capture_mb", 50 if on else 0).successful
    time.sleep(0.1)  # a parameter takes effect in the cycle after its answer


def test_off_it_says_how_to_turn_it_on(process, ros_node):
    turn(ros_node, False)
    answer = call_trigger(ros_node, "keeper", "save_capture")
    assert not answer.success
    assert "set the parameter capture_mb above 0" in answer.message


def test_input_and_output_are_saved_while_frames_go_on_and_can_be_scored(process, ros_node, camera, tmp_path):
    turn(ros_node, True)
    for _ in range(12):
        camera.ask(PICTURE)
    answer = call_trigger(ros_node, "keeper", "save_capture")
    assert answer.success, answer.message
    path = Path(answer.message.partition(": ")[0])
    camera.ask(PICTURE)
    with open_bag(path) as bag:
        assert bag.damage == ""
        counts = {name: topic.count for name, topic in bag.topics().items()}
        assert {TOPIC, "/keeper/labels", "/keeper/confidence", "/keeper/superpixels"} < counts.keys()
        assert counts[TOPIC] == counts["/keeper/labels"] == 12
        assert counts["/keeper/label_info"] == 1
        assert counts["/diagnostics"] >= 1
        frames = list(FrameSource(bag, TOPIC, "/keeper/labels"))
        assert all(frame.labels is not None for frame in frames)
        np.testing.assert_array_equal(frames[0].rgb, PICTURE)
        infos = list(bag.messages(["/keeper/label_info"]))
        assert "dark" in bag.deserialize(infos[0]).data
    model = str(tmp_path / "m.onnx")
    write_tiny_model(Path(model))
    command = ["evaluate-bag", str(path), "--model", model, "--image-topic", TOPIC, "--label-topic", "/keeper/labels"]
    assert main([*command, "--engine", "onnxruntime", "--out", str(tmp_path / "out")]) == 0


def test_an_error_in_the_diagnostics_saves_one_by_itself_but_not_a_second_one_at_once(
    process, ros_node, camera, folder
):
    turn(ros_node, True)

    def fail() -> None:
        message = camera.message(PICTURE)
        message.step = 1
        camera.publisher.publish(message)

    def captures() -> list[Path]:
        return sorted((folder / "new").glob("keeper_*_error.mcap"))

    fail()
    wait_until(captures, ANSWER_S, "a capture")
    process.wait_for("diagnostics turned to error (")
    (first,) = captures()
    time.sleep(0.5)  # diagnostics are OK again
    fail()
    time.sleep(0.5)
    assert captures() == [first]
    time.sleep(1.5)
    fail()
    wait_until(lambda: captures() and captures() != [first], ANSWER_S, "a second capture")
    wait_until(lambda: len(captures()) == 1, ANSWER_S, "the first one's removal")


def test_a_folder_that_cannot_be_written_is_one_line_and_nothing_else_is_lost(process, ros_node, camera, folder):
    turn(ros_node, True)
    camera.ask(PICTURE)
    taken = folder / "a_file"
    taken.write_text("")
    assert set_parameter(ros_node, "keeper", "capture_folder", str(taken)).successful
    time.sleep(0.1)
    answer = call_trigger(ros_node, "keeper", "save_capture")
    assert set_parameter(ros_node, "keeper", "capture_folder", str(folder / "new")).successful
    assert not answer.success
    assert answer.message.startswith("capture not saved: [Errno 17]")
    camera.ask(PICTURE)
