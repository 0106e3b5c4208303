"""demo.launch.py and evaluate.launch.py, run on recordings of a few images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test.launch.launching import Launched
from test.seg_perception.tiny_bag import compressed_message, write_bag
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels

Launch = Callable[..., Launched]
Tool = Callable[..., str]


@pytest.fixture
def plain_bag(tmp_path: Path) -> Path:
    """Five images."""
    messages: list[tuple[str, int, Any]] = [
        ("/image", n * 10**8, compressed_message(np.full((24, 32, 3), 20 * n, np.uint8), n * 10**8, "png"))
        for n in range(5)
    ]
    return write_bag(tmp_path / "bag", messages)


def test_the_demo_plays_once_through_the_node_and_ends_by_itself(launch: Launch, model: Path, plain_bag: Path) -> None:
    arguments = [f"model:={model}", f"bag:={plain_bag}", "image:=/image", "image_type:=compressed", "loop:=false"]
    run = launch("demo.launch.py", *arguments)
    assert run.wait() == 0, run.output
    assert "messages on 1 topics" in run.output
    assert "was required: shutting down" in run.output


def test_the_demo_gives_the_node_the_recordings_time(launch: Launch, tool: Tool, model: Path, plain_bag: Path) -> None:
    arguments = [f"model:={model}", f"bag:={plain_bag}", "image:=/image", "image_type:=compressed"]
    run = launch("demo.launch.py", *arguments, "use_sim_time:=true")
    run.wait_for("active: listening to")
    clock = tool("topic", "echo", "--no-daemon", "--once", "/clock", "rosgraph_msgs/msg/Clock")
    assert "sec: 0\n" in clock  # the recording's, not this machine's
    assert run.interrupt() == 0, run.output


@pytest.mark.parametrize("how", ["play", "read"])
def test_evaluate_scores_a_recording_either_way_and_ends_by_itself(
    launch: Launch, model: Path, tmp_path: Path, how: str
) -> None:
    messages: list[tuple[str, int, Any]] = []
    for n in range(4):
        rgb = np.random.default_rng(n).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)
        stamp_ns = 10**9 + n * 200_000_000
        messages.append(("/image", stamp_ns, compressed_message(rgb, stamp_ns, "png")))
        messages.append(("/truth", stamp_ns, compressed_message(tiny_labels(rgb), stamp_ns, "png")))
    bag, out = write_bag(tmp_path / "bag", messages), tmp_path / "out"
    arguments = [f"how:={how}", f"bag:={bag}", f"model:={model}", "labels:=/truth", f"out:={out}", "video:=false"]
    run = launch("evaluate.launch.py", *arguments)
    assert run.wait() == 0, run.output
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["pixel_accuracy"] == 1.0
    assert report["frames_out"] >= 2  # a busy machine may let the node miss a frame
    assert (out / "node.log").exists() == (how == "play")
    assert (out / "video.mp4").exists() is False


def test_evaluate_merges_classes_by_a_file(launch: Launch, model: Path, plain_bag: Path, tmp_path: Path) -> None:
    classes = tmp_path / "classes.yaml"
    classes.write_text("classes: [no such key]\n", encoding="utf-8")
    arguments = [
        f"bag:={plain_bag}",
        f"model:={model}",
        f"classes:={classes}",
        "labels:=none",
        f"out:={tmp_path / 'o'}",
    ]
    run = launch("evaluate.launch.py", "how:=read", *arguments)
    assert run.wait() == 1
    assert str(classes) in run.output  # it was read, and its mistake is told
    run = launch("evaluate.launch.py", "how:=read", *arguments[:2], *arguments[3:])
    assert run.wait() == 0, run.output
    assert json.loads((tmp_path / "o/report.json").read_text(encoding="utf-8"))["frames_out"] == 5


def test_evaluate_without_a_score_says_why_and_exits_with_1(launch: Launch, tmp_path: Path) -> None:
    run = launch("evaluate.launch.py", "how:=read", f"bag:={tmp_path / 'gone.mcap'}", f"out:={tmp_path / 'out'}")
    assert run.wait() == 1
    assert "gone.mcap does not exist; give a rosbag2 folder" in run.output
    assert "no score: seg_perception ended with exit code 2" in run.output
