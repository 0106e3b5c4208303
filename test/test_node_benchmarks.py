"""The benchmarks of the running node: what they compute, and each of them run, shortly, with a tiny model."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.cameras import nodes_of, outputs_of
from benchmarks.model_swap import longest_gap_ms
from benchmarks.running_node import spread
from test.seg_perception.tiny_model import write_tiny_model
from test.soak.memory import MemorySampler

ROOT = Path(__file__).parents[1]
needs_ros = pytest.mark.skipif(find_spec("rclpy") is None, reason="needs rclpy: pip install 'seg_perception[ros]'")


def run(tmp_path: Path, name: str, *options: str) -> list[list[str]]:
    """The cells of the table that a benchmark prints, heading and rule left out."""
    model = write_tiny_model(tmp_path / "tiny.onnx")
    command = [sys.executable, "-m", f"benchmarks.{name}", "--model", str(model), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "printed").write_text(done.stdout)
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows[2:]]


def figure(cell: str) -> float:
    """The median of "1.5 (1.0-2.0)"."""
    return float(cell.partition(" ")[0])


def test_all_cameras_are_of_one_node_or_each_has_its_own():
    common: dict[str, object] = {"model": "m.onnx"}
    assert nodes_of("one", ["a", "b"], common) == {
        "all": {"model": "m.onnx", "cameras": "[a,b]", "a.image": "/a/image", "b.image": "/b/image"}
    }
    assert nodes_of("each", ["a", "b"], common) == {
        "node_a": {"model": "m.onnx", "image": "/a/image"},
        "node_b": {"model": "m.onnx", "image": "/b/image"},
    }
    assert (outputs_of("one", "a"), outputs_of("each", "a")) == ("/all/a", "/node_a")


def test_the_longest_gap_is_between_masks_in_the_order_of_their_arrival():
    assert longest_gap_ms(np.array([3.0, 1.0, 2.0, 9.0]), 0.5, 4.0) == 1000.0
    assert longest_gap_ms(np.array([]), 0.5, 4.0) == 3500.0


def test_spread_is_median_smallest_and_largest():
    assert spread([3.0, 1.0, 2.5]) == "2.5 (1.0-3.0)"


@pytest.mark.parametrize(
    ("leak", "p99_ms", "said"),
    [
        (0.0, 49.0, ["does not grow", "within two engine times and 10 ms (50.0 ms)"]),
        (3.0, 51.0, ["GROWS", "ABOVE two engine times and 10 ms (50.0 ms)"]),
    ],
)
def test_ten_minutes_of_overload_are_judged(leak: float, p99_ms: float, said: list[str]):
    from benchmarks.camera import Stream
    from benchmarks.node_latency import Figures, endurance

    seconds = np.arange(600.0)
    noise = np.random.default_rng(0).normal(0, 0.2, 600)
    memory = SimpleNamespace(
        at_s=list(seconds),
        figures=[SimpleNamespace(memory_mb=300 + leak * s / 60 + n) for s, n in zip(seconds, noise, strict=True)],
    )
    memory.slope = lambda: MemorySampler.slope(memory)  # type: ignore[arg-type]
    stream = Stream(30.0, np.full(1000, p99_ms), np.zeros(1000))
    lines = endurance(Figures(20.0, 25.0, 20.0, 2.0, stream, memory))  # type: ignore[arg-type]
    assert [text in line for text, line in zip(said, lines, strict=True)] == [True, True], lines


@needs_ros
def test_cameras_are_measured_in_both_arrangements(tmp_path: Path):
    options = ["--engine", "onnxruntime", "--cameras", "2", "--rate", "10", "--seconds", "2", "--repeats", "1"]
    one, each = run(tmp_path, "cameras", *options)
    assert (one[:2], each[:2]) == (["2", "one node"], ["2", "a node each"])
    for row in (one, each):
        rate, least, p50, p99, memory, start = map(figure, row[2:])
        assert 0 < least <= rate / 2 + 0.1
        assert rate < 22
        assert 0 < p50 <= p99
        assert 20 < memory < 2000
        assert 0 < start < 120


@needs_ros
def test_a_change_of_the_model_is_measured_both_ways(tmp_path: Path):
    for engine in ("openvino", "onnxruntime"):
        pytest.importorskip(engine, reason=f"{engine} is not installed")
    rows = run(tmp_path, "model_swap", "--rate", "10", "--repeats", "1")
    assert [row[0] for row in rows] == ["openvino to onnxruntime", "onnxruntime to openvino"]
    for row in rows:
        usual_ms, gap_ms, load_s, before, peak, after = map(figure, row[1:])
        assert usual_ms > 50  # ten images a second
        assert 50 < gap_ms < 120_000
        assert load_s > 0
        assert 20 < min(before, after) <= peak < 4000


@needs_ros
def test_the_node_under_load_for_longer_is_measured_with_its_memory(tmp_path: Path):
    options = ["--engine", "onnxruntime", "--sizes", "640x480", "--kinds", "node", "--repeats", "1", "--frames", "5"]
    rows = run(tmp_path, "node_latency", *options, "--overload", "0.05", "--overload-minutes", "0.05")
    assert [row[1] for row in rows] == ["node", "echo", "bare"]
    printed = (tmp_path / "printed").read_text()
    assert re.search(
        r"640x480: memory: \d+ samples of memory after the start, expected 40", printed
    )  # too short to tell
