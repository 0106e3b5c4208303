"""Runs in a table, beside each other, and as curves."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree
from pathlib import Path

import pytest
import yaml

from seg_models.runs.command import main
from seg_models.runs.curves import chart, smoothed
from seg_models.runs.reading import RunsError, find_runs, read_run
from seg_models.runs.tables import compared, differences, listed


def write_run(folder: Path, scores: dict[int, float], steps: int = 100, **optimizer: float) -> Path:
    """A folder as a training leaves it."""
    folder.mkdir(parents=True)
    recipe = {
        "name": folder.name,
        "model": {"name": "linear", "backbone": "vit_tiny_patch16_224", "options": {}},
        "optimizer": {"lr": 1e-3} | optimizer,
        "schedule": {"steps": steps},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    lines = [{"step": step, "loss": 1.0 / step, "images_per_s": 10.0} for step in range(1, max(scores, default=1) + 1)]
    lines += [{"step": step, "val/miou": score} for step, score in scores.items()]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"st')
    start = {"started": "2026-01-02T03:04:05+0000", "commit": "0123456789ab"}
    (folder / "environment.jsonl").write_text(json.dumps(start) + "\n")
    return folder


@pytest.fixture
def runs(tmp_path) -> Path:
    write_run(tmp_path / "runs/a", {5: 0.2, 10: 0.5, 15: 0.4})
    write_run(tmp_path / "runs/group/b", {10: 0.6}, lr=2e-3, momentum=0.8)
    (tmp_path / "runs/no_run").mkdir()
    return tmp_path / "runs"


def test_the_list_tells_how_far_each_run_is_its_best_and_its_last_score(runs, capsys):
    assert main(["list", str(runs)]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["run", "model", "backbone", "steps"]
    assert first.split() == [
        *(str(runs / "a"), "linear", "vit_tiny_patch16_224", "15/100", "0.5000", "10", "0.4000"),
        *(first.split()[7], "10.0", "2026-01-02T03:04", "0123456789ab"),
    ]
    assert float(first.split()[7]) == pytest.approx(sum(1 / step for step in range(6, 16)) / 10, abs=5e-4)
    assert second.split()[0] == str(runs / "group/b")


def test_a_comparison_names_what_differs_and_the_scores_by_step(runs, capsys, tmp_path):
    page = tmp_path / "curves.html"
    assert main(["compare", str(runs / "a"), str(runs / "group/b"), "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^optimizer.lr +0.001 +0.002$", out, re.MULTILINE)
    assert re.search(r"^optimizer.momentum +None +0.8$", out, re.MULTILINE)
    assert "schedule.steps" not in out  # the same in both
    assert re.search(r"^10 +0.5000 +0.6000$", out, re.MULTILINE)
    assert re.search(r"^15 +0.4000 +-$", out, re.MULTILINE)
    assert page.read_text().count("<polyline") == 4
    assert "optimizer.lr" in page.read_text()


def test_curves_are_drawn_to_scale(tmp_path):
    drawing = xml.etree.ElementTree.fromstring(chart("a < b", [("x & y", {0: 0.0, 50: 0.5, 100: 1.0}), ("none", {})]))
    line, empty = drawing.findall("polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert points[1] == pytest.approx(((points[0][0] + points[2][0]) / 2, (points[0][1] + points[2][1]) / 2), abs=0.11)
    assert points[0][1] > points[2][1]  # up is more
    assert empty.attrib["points"] == ""
    assert smoothed({1: 1.0, 2: 0.0, 3: 0.0}) == pytest.approx({1: 1.0, 2: 0.9, 3: 0.81})


def test_runs_without_a_validation_or_a_difference_are_compared_too(tmp_path):
    first, second = (read_run(write_run(tmp_path / name, {})) for name in ("a", "b"))
    assert differences([first, second]) == {}
    text = "\n".join(compared([first, second]))
    assert "the recipes are the same" in text
    assert "no validation yet" in text
    assert " - " in listed([first])[1]


def test_what_is_no_run_is_named(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["list", str(tmp_path / "empty")]) == 2
    assert "no run in" in capsys.readouterr().err
    assert main(["list", str(tmp_path / "absent")]) == 2
    assert "no folder" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "empty")]) == 2
    assert "holds no run" in capsys.readouterr().err
    broken = write_run(tmp_path / "broken", {})
    (broken / "recipe.yaml").write_text("[1, 2")
    with pytest.raises(RunsError, match="holds no run"):
        find_runs(broken)
