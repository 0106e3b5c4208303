"""Three cameras on one node: one is dead, one floods it with broken images, and the third loses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from test.seg_perception.node_diagnostics import Diagnostics, figures
from test.seg_perception.node_process import ANSWER_S, START_S, Camera, NodeProcess, pixels
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels, write_tiny_model
from test.seg_perception.waiting import wait_until

PICTURE = np.random.default_rng(0).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)
OK, ERROR, STALE = 0, 2, 3
PAUSE_S = 1.0  # capture_pause_s


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captures")


@pytest.fixture(scope="module")
def process(ros_environment: dict[str, str], captures: Path) -> Iterator[NodeProcess]:
    process = NodeProcess(
        ros_environment,
        "trio",
        model=write_tiny_model(captures / "m.onnx"),
        engine="onnxruntime",
        cameras="[dead, bad, good]",
        diagnostics_period_s=0.2,
        stale_after_s=1.0,
        capture_mb=10,
        capture_folder=captures,
        capture_pause_s=PAUSE_S,
    )
    process.wait_for("active: listening to")
    yield process
    assert process.alive, process.lines[-20:]
    assert process.stop() == 0
    assert not [line for line in process.lines if "Traceback" in line or "unexpected" in line]


@pytest.fixture
def good(process: NodeProcess, ros_node) -> Camera:
    camera = Camera(ros_node, "/good/image", "trio/good")
    camera.connect()
    return camera


class Flood:
    """Publishes broken images as fast as they go, each of another kind, until it is left."""

    def __init__(self, camera: Camera) -> None:
        self.sent = 0
        self._camera = camera
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        whole = self._camera.message(PICTURE)
        while not self._stop.wait(0.003):
            message = self._camera.message(PICTURE[:4])
            kind = self.sent % 4
            if kind == 0:
                message.encoding = f"nonsense{self.sent}" * 50
            elif kind == 1:
                message.step = self.sent % 90
            elif kind == 2:
                message.height = 2**31 + self.sent
            else:
                message.data = whole.data[: self.sent % 300]
            self._camera.publisher.publish(message)
            self.sent += 1


def test_a_dead_and_a_flooding_camera_cost_the_third_one_nothing(process, ros_node, good):
    diagnostics = Diagnostics(ros_node)
    bad = Camera(ros_node, "/bad/image", "trio/bad")
    wait_until(lambda: bad.publisher.get_subscription_count() > 0, START_S, "the bad camera's subscription")
    wait_until(lambda: ros_node.count_publishers("/trio/bad/labels") > 0, START_S, "its output")
    failed_before = diagnostics.values("/trio: good").get("failed", "0")
    memory_mb = figures(process.process.pid).memory_mb
    with Flood(bad) as flood:
        wait_until(lambda: diagnostics.level("/trio: bad") == ERROR, ANSWER_S, "ERROR of the bad one")
        for _ in range(100):
            np.testing.assert_array_equal(pixels(good.ask(PICTURE)), tiny_labels(PICTURE))
        wait_until(lambda: flood.sent > 400, ANSWER_S, "a flood")
        assert diagnostics.level("/trio: good") == OK, diagnostics.message("/trio: good")
        assert diagnostics.level("/trio: dead") == STALE
        assert diagnostics.values("/trio: good")["failed"] == failed_before
    assert figures(process.process.pid).memory_mb < memory_mb + 50
    lines = [line for line in process.lines if "left out" in line]
    assert all("camera bad: " in line for line in lines)
    assert len(lines) < 40  # of hundreds; by kind, at most one in ten seconds
    np.testing.assert_array_equal(pixels(bad.ask(PICTURE)), tiny_labels(PICTURE))  # none of it is for good


def test_a_camera_that_turns_to_error_is_captured_while_another_one_is_in_error(process, ros_node, good, captures):
    diagnostics = Diagnostics(ros_node)
    bad = Camera(ros_node, "/bad/image", "trio/bad")
    wait_until(lambda: bad.publisher.get_subscription_count() > 0, START_S, "the bad camera's subscription")
    with Flood(bad):
        wait_until(lambda: diagnostics.level("/trio: bad") == ERROR, ANSWER_S, "ERROR of the bad one")
        time.sleep(2 * PAUSE_S)
        before = {path.name for path in captures.glob("trio_*_error.mcap")}
        lines = len(process.lines)
        message = good.message(PICTURE)
        message.step = 1

        def captured() -> bool:
            good.publisher.publish(message)
            time.sleep(0.1)
            return any("diagnostics turned to error (/trio: good" in line for line in process.lines[lines:])

        wait_until(captured, ANSWER_S, "the capture of the good camera's error")
    assert {path.name for path in captures.glob("trio_*_error.mcap")} - before
