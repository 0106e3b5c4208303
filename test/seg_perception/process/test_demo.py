"""The demo end to end: a tiny recording through the real node in its own process, over real DDS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from test.seg_perception.tiny_bag import compressed_message, write_bag
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels, write_tiny_model
from test.seg_perception.waiting import wait_until

FRAMES = 8
WRONG_ROWS = 6  # of the 24 rows, in the true labels of every frame


@pytest.fixture
def bag_path(tmp_path: Path) -> Path:
    """Eight 32x24 images, 0.2 s apart, with labels that the tiny model meets except in the first rows."""
    generator = np.random.default_rng(3)
    messages = []
    for number in range(FRAMES):
        stamp_ns = 10**9 + number * 200_000_000
        rgb = generator.integers(0, 256, (*INPUT_SIZE, 3), np.uint8)
        labels = tiny_labels(rgb)
        labels[:WRONG_ROWS] = (labels[:WRONG_ROWS] + 1) % 4
        messages.append(("/camera/image_raw/compressed", stamp_ns, compressed_message(rgb, stamp_ns, "png")))
        messages.append(("/camera/labels", stamp_ns, compressed_message(labels, stamp_ns, "png")))
    return write_bag(tmp_path / "bag", messages)


def demo(*options: str | Path) -> list[str]:
    return [sys.executable, "-m", "seg_perception.cli", "demo", *map(str, options)]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def nodes_logging_to(log: Path) -> list[int]:
    """Processes that have this file open as their output, other than by having ended."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            if link.resolve() == log.resolve():
                found.append(int(link.parts[2]))
        except OSError:
            continue  # ended meanwhile
    return found


def test_it_scores_what_the_node_publishes_and_writes_report_and_video(
    tmp_path: Path, ros_environment: dict[str, str], bag_path: Path
) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    out = tmp_path / "out"
    command = demo("--bag", bag_path, "--model", model, "--out", out, "--engine", "onnxruntime", "--threads", "1")
    done = subprocess.run(command, env=ros_environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["frames_in"] == FRAMES
    assert report["frames_out"] + report["frames_dropped"] == FRAMES
    # A busy machine may let the node miss a frame, but at five a second no more than that.
    assert report["frames_out"] >= FRAMES // 2
    assert sum(report["drop_reasons"].values()) == report["frames_dropped"]
    # Every frame is wrong in the same share of its pixels, so a dropped frame does not change the score.
    assert report["pixel_accuracy"] == pytest.approx(1 - WRONG_ROWS / INPUT_SIZE[0], abs=1e-9)
    assert set(report["iou"]) == {"dark", "red", "green", "yellow"}
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p95"] <= report["latency_ms"]["p99"] < 5000
    assert report["engine"] == "onnxruntime"
    assert report["model"] == "tiny"
    assert "DDS" in report["latency_meaning"]
    assert "tiny" in (out / "report.html").read_text(encoding="utf-8")
    video = cv2.VideoCapture(str(out / "demo.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == report["frames_out"]
    assert int(video.get(cv2.CAP_PROP_FRAME_WIDTH)) == 3 * 480  # camera, labels, superpixels
    video.release()
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 5
    assert f"{FRAMES} in" in lines[1]
    assert str(out / "report.html") in lines[-1]
    assert nodes_logging_to(out / "node.log") == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_stopping_it_ends_the_node_too(
    tmp_path: Path, ros_environment: dict[str, str], bag_path: Path, how: signal.Signals
) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    out = tmp_path / "out"
    command = demo("--bag", bag_path, "--model", model, "--out", out, "--rate", "0.05")
    with subprocess.Popen(command, env=ros_environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            log = out / "node.log"
            wait_until(lambda: log.exists() and "active: listening" in log.read_text(), 60, "the node to be active")
            (node,) = nodes_logging_to(log)
            process.send_signal(how)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == (130 if how == signal.SIGINT else 143), errors
    assert "Traceback" not in errors
    wait_until(lambda: not is_running(node), 10, "the node to end")


def test_a_node_that_dies_ends_the_demo_with_its_last_words(
    tmp_path: Path, ros_environment: dict[str, str], bag_path: Path
) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    out = tmp_path / "out"
    command = demo("--bag", bag_path, "--model", model, "--out", out, "--rate", "0.05")
    with subprocess.Popen(command, env=ros_environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            log = out / "node.log"
            wait_until(lambda: log.exists() and "active: listening" in log.read_text(), 60, "the node to be active")
            time.sleep(0.5)
            (node,) = nodes_logging_to(log)
            os.kill(node, signal.SIGKILL)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 1, errors
    assert "the node ended by itself with signal SIGKILL" in errors
    assert "active: listening" in errors


def test_images_that_share_a_stamp_cannot_be_paired_and_it_says_so(
    tmp_path: Path, ros_environment: dict[str, str]
) -> None:
    image = compressed_message(np.zeros((24, 32, 3), np.uint8), 7, "png")
    bag = write_bag(tmp_path / "bag", [("/image", n * 10**8, image) for n in range(3)])
    model = write_tiny_model(tmp_path / "tiny.onnx")
    out = tmp_path / "out"
    done = subprocess.run(
        demo("--bag", bag, "--model", model, "--out", out),
        env=ros_environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "share the header stamp 7 ns, expected one a stamp" in done.stderr
    assert nodes_logging_to(out / "node.log") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "/nowhere/m.onnx"], "/nowhere/m.onnx"),
        (["--bag", "/nowhere/b.mcap"], "bag /nowhere/b.mcap does not exist"),
        (["--seconds", "-1"], "--seconds is -1, expected 0 or more"),
        (["--seconds", "nan"], "--seconds is nan, expected 0 or more"),
        (["--label-topic", "/nope"], "has no topic '/nope'; it has: "),
        (["--rate", "0"], "--rate is 0, expected 0.01 to 100"),
        (["--image-topic", "/nope"], "has no topic '/nope'; it has: /camera/image_raw/compressed"),
    ],
)
def test_what_cannot_be_used_is_said_before_the_node_is_started(
    tmp_path: Path, ros_environment: dict[str, str], bag_path: Path, options: list[str], message: str
) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    command = demo("--bag", bag_path, "--model", model, "--out", tmp_path / "out", *options)
    done = subprocess.run(command, env=ros_environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "node.log").exists()
