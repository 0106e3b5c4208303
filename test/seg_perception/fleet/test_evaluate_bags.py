from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from seg_perception.bag.metrics import ConfusionMatrix, scores
from seg_perception.cli import main
from seg_perception.fleet.bag_scores import MOMENTS, BagScores, Moment, parse_scores, scores_text
from seg_perception.fleet.compare import compare
from seg_perception.fleet.jobs import find_bags
from seg_perception.fleet.report import SHOWN_BAGS, Failure, FleetResult, write_fleet_report
from seg_perception.fleet.tally import Tally, class_counts
from seg_perception.model.model_file import read_model_info
from test.seg_perception.tiny_bag import image_message, write_bag
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels, write_tiny_model

SECOND = 10**9
CAMERA, LABELS = "/camera/image_raw", "/camera/labels"


def write_labelled_bag(folder: Path, seed: int, noise: float, frames: int = 4) -> np.ndarray:
    """Random frames whose labels are the model's answer but for the share `noise`; returns the true counts."""
    rng = np.random.default_rng(seed)
    matrix = ConfusionMatrix(4)
    messages: list[tuple[str, int, Any]] = []
    for index in range(frames):
        rgb = rng.integers(0, 256, (*INPUT_SIZE, 3), np.uint8)
        wrong = rng.random(INPUT_SIZE) < noise
        labels = np.where(wrong, rng.integers(0, 4, INPUT_SIZE), tiny_labels(rgb)).astype(np.uint8)
        matrix.add(labels, tiny_labels(rgb))
        stamp = (index + 1) * SECOND
        messages.append((CAMERA, stamp, image_message(rgb, stamp, "rgb8")))
        messages.append((LABELS, stamp + 1, image_message(labels, stamp, "mono8")))
    write_bag(folder, messages)
    return matrix.counts


def arguments(bags: Path, model: Path, out: Path, *more: str) -> list[str]:
    given = ["evaluate-bags", str(bags), "--model", str(model), "--out", str(out), "--label-topic", LABELS]
    return [*given, "--engine", "onnxruntime", "--threads", "1", *more]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx")


def worse_model(model: Path) -> Path:
    """The model with another threshold for red, so that it never sees it."""
    proto = onnx.load(model)
    for initializer in proto.graph.initializer:
        if initializer.name == "thresholds":
            initializer.CopyFrom(numpy_helper.from_array(np.array([256.0, 128.0], np.float32), "thresholds"))
    path = model.with_name("worse.onnx")
    onnx.save(proto, path)
    return path


def fleet_json(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "fleet.json").read_text())
    return content


def kill_workers(of: str, times: int, killed: list[int]) -> threading.Thread:
    """Kill -9 the workers of the recording `of` as they appear, `times` of them."""

    def hunt() -> None:
        deadline = time.monotonic() + 60
        while len(killed) < times and time.monotonic() < deadline:
            for child in multiprocessing.active_children():
                if child.name == of and child.pid is not None and child.pid not in killed:
                    os.kill(child.pid, signal.SIGKILL)
                    killed.append(child.pid)
            time.sleep(0.005)

    thread = threading.Thread(target=hunt)
    thread.start()
    return thread


def test_bags_merge_exactly_rank_and_broken_ones_are_listed(tmp_path: Path, model: Path) -> None:
    bags, out = tmp_path / "bags", tmp_path / "out"
    good = write_labelled_bag(bags / "good", 1, 0.1)
    bad = write_labelled_bag(bags / "deep" / "bad", 2, 0.6)
    (bags / "<b>broken.mcap").write_bytes(b"no recording")

    assert main(arguments(bags, model, out, "--workers", "2", "--window", "2")) == 1

    content = fleet_json(out)
    assert content["confusion"] == (good + bad).tolist()
    assert content["miou"] == scores(good + bad).miou
    assert [Path(bag["bag"]).name for bag in content["bags"]] == ["bad", "good"]
    assert [bag["miou"] for bag in content["bags"]] == [scores(bad).miou, scores(good).miou]
    moments = content["moments"]
    assert [(Path(one["bag"]).name, one["last"] - one["first"]) for one in moments] == [("bad", 1)] * 2 + [
        ("good", 1)
    ] * 2
    assert [one["miou"] for one in moments] == sorted(one["miou"] for one in moments)
    assert [Path(one["bag"]).name for one in content["failures"]] == ["<b>broken.mcap"]
    page = (out / "fleet.html").read_text()
    assert "&lt;b&gt;broken.mcap" in page
    assert "<b>broken" not in page
    assert "http" not in page


def test_a_killed_worker_costs_nothing_the_first_time(tmp_path: Path, model: Path) -> None:
    bags, out = tmp_path / "bags", tmp_path / "out"
    counts = sum(write_labelled_bag(bags / name, seed, 0.3) for seed, name in enumerate(("a", "b")))
    killed: list[int] = []
    hunter = kill_workers("a", 1, killed)
    assert main(arguments(bags, model, out, "--workers", "2")) == 0
    hunter.join()
    assert len(killed) == 1
    assert fleet_json(out)["confusion"] == np.asarray(counts).tolist()


def test_a_recording_whose_workers_are_killed_twice_is_listed_and_the_others_are_scored(
    tmp_path: Path, model: Path
) -> None:
    bags, out = tmp_path / "bags", tmp_path / "out"
    write_labelled_bag(bags / "a", 1, 0.3)
    counts = write_labelled_bag(bags / "b", 2, 0.3)
    killed: list[int] = []
    hunter = kill_workers("a", 2, killed)
    assert main(arguments(bags, model, out, "--workers", "2")) == 1
    hunter.join()
    content = fleet_json(out)
    assert len(killed) == 2
    assert [(Path(one["bag"]).name, one["problem"]) for one in content["failures"]] == [
        ("a", "its worker died 2 times, at last of SIGKILL")
    ]
    assert content["confusion"] == counts.tolist()


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, model: Path) -> None:
    bags, out = tmp_path / "bags", tmp_path / "out"
    counts = sum(write_labelled_bag(bags / name, seed, 0.3) for seed, name in enumerate(("a", "b", "c")))
    given = arguments(bags, model, out, "--workers", "1")
    with subprocess.Popen([sys.executable, "-m", "seg_perception.cli", *given]) as process:
        deadline = time.monotonic() + 60
        while not (done := list((out / "bags").glob("[!.]*.json"))) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
    assert 1 <= len(done) < 3
    assert not (out / "fleet.json").exists()
    before = done[0].stat().st_mtime_ns

    assert main(given) == 0
    assert fleet_json(out)["confusion"] == np.asarray(counts).tolist()
    assert done[0].stat().st_mtime_ns == before
    results = list((out / "bags").glob("[!.]*.json"))
    assert len(results) == 3

    times = {path: path.stat().st_mtime_ns for path in results}
    os.utime(next((bags / "a").glob("*.mcap")))  # a changed recording is scored anew, the others are not
    assert main(given) == 0
    assert {path: path.stat().st_mtime_ns for path in results} == times
    assert len(list((out / "bags").glob("[!.]*.json"))) == 4
    assert fleet_json(out)["confusion"] == np.asarray(counts).tolist()


def test_a_damaged_result_is_scored_again(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bags, out = tmp_path / "bags", tmp_path / "out"
    counts = sum(write_labelled_bag(bags / name, seed, 0.3) for seed, name in enumerate(("a", "b")))
    given = arguments(bags, model, out, "--workers", "2")
    assert main(given) == 0
    first = sorted((out / "bags").iterdir())[0]
    for damaged in (b"", first.read_bytes()[:-40], b"[1]", first.read_bytes().replace(b'"moments"', b'"m"')):
        first.write_bytes(damaged)
        assert main(given) == 0
        assert f"{first} is damaged" in capsys.readouterr().err
        assert fleet_json(out)["confusion"] == np.asarray(counts).tolist()


def test_many_recordings_are_added_up_in_any_order_and_shown_on_a_bounded_page(tmp_path: Path, model: Path) -> None:
    rng = np.random.default_rng(6)
    recordings = []
    for index in range(1000):
        moments = [Moment(f"bag{index}", 30 * i, 30 * i + 29, i, float(rng.random())) for i in range(3)]
        confusion = rng.integers(0, 10**6, (4, 5))
        recordings.append(BagScores(f"bag{index}", confusion, 90, 1, 90, moments, ["a warning"], 1.0))
    forward, backward = Tally(), Tally()
    for one in recordings:
        forward.add(parse_scores(scores_text(one), one.bag))
    for one in reversed(recordings):
        backward.add(one)
    assert forward.confusion is not None
    assert forward.confusion.tolist() == np.sum([one.confusion for one in recordings], axis=0).tolist()
    assert (forward.ranked(), forward.moments) == (backward.ranked(), backward.moments)
    worst = sorted(moment.miou for one in recordings for moment in one.moments)[:MOMENTS]
    assert [moment.miou for moment in forward.moments] == worst
    failures = [Failure(f"bad{index}", "m", "broken") for index in range(1000)]
    _, page = write_fleet_report(tmp_path, FleetResult(read_model_info(model), None, forward, failures, None))
    content = fleet_json(tmp_path)
    assert (len(content["bags"]), len(content["failures"])) == (1000, 1000)
    text = page.read_text()
    assert text.count(">bad") == SHOWN_BAGS
    assert text.count("a warning") == SHOWN_BAGS
    assert "Not scored, the first 200 of 1000" in text


def test_a_worse_model_compares_as_worse_on_the_same_bags(tmp_path: Path, model: Path) -> None:
    bags, out = tmp_path / "bags", tmp_path / "out"
    for seed in range(2):
        write_labelled_bag(bags / str(seed), seed, 0.2)
    assert main(arguments(bags, model, out, "--workers", "2", "--compare", str(worse_model(model)))) == 0
    comparison = fleet_json(out)["comparison"]
    assert comparison["bags"] == 2
    assert comparison["low"] <= comparison["difference"] <= comparison["high"] < 0
    assert comparison["difference"] == comparison["other_miou"] - comparison["miou"]


def test_the_interval_is_that_of_a_bootstrap_written_plainly() -> None:
    rng = np.random.default_rng(5)
    first = [rng.integers(0, 1000, (3, 4)) + np.eye(3, 4, dtype=np.int64) * 2000 for _ in range(12)]
    other = [one + rng.integers(0, 300, (3, 4)) for one in first]
    named = [{str(index): class_counts(one) for index, one in enumerate(side)} for side in (first, other)]
    ours = compare(*named, seed=1)
    assert ours == compare(*named, seed=1)
    differences = []
    for _ in range(2000):
        drawn = rng.integers(0, 12, 12)
        pair = [scores(np.sum([side[index] for index in drawn], axis=0)).miou for side in (first, other)]
        differences.append(pair[1] - pair[0])
    low, high = np.percentile(differences, (2.5, 97.5))
    # Two bootstraps of 2000 draws: an end of the interval is known to about 5 % of the interval's length.
    assert ours is not None
    assert ours.low is not None
    assert ours.high is not None
    assert ours.low == pytest.approx(low, abs=0.15 * (high - low))
    assert ours.high == pytest.approx(high, abs=0.15 * (high - low))


def test_a_list_names_recordings_beside_it_each_once(tmp_path: Path) -> None:
    listed = tmp_path / "bags.txt"
    (tmp_path / "link").symlink_to(tmp_path / "a")
    listed.write_text("# of Monday\na\n\n/data/b.mcap\n./a\nlink\n")
    assert find_bags(listed) == [tmp_path / "a", Path("/data/b.mcap")]


@pytest.mark.parametrize("source", ["empty", "missing.txt"])
def test_nothing_to_score_is_bad_input(
    tmp_path: Path, model: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(arguments(tmp_path / source, model, tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert source in error
    assert len(error.splitlines()) == 1
