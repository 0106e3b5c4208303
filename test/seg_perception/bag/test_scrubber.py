from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_perception.bag import scrubber
from seg_perception.bag.result import EvaluationResult
from test.seg_perception.bag.test_report import evaluated, page_of


def with_video(tmp_path: Path, frames: int, labelled: bool = True) -> EvaluationResult:
    result = evaluated(tmp_path, frames, labelled)
    result.files["video"] = 'a "run".mp4'
    result.video_frames_per_second = 10.0
    return result


def embedded(page: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="frames">(.*?)</script>', page)
    assert match is not None
    return json.loads(match[1])


def test_the_page_plays_the_video_and_has_every_frames_confusion(tmp_path: Path) -> None:
    result = with_video(tmp_path, 30)
    page, check = page_of(tmp_path, result)
    assert [r for r in check.references if not r.startswith("data:")] == ['a "run".mp4'] * 2  # the player, the link
    data = embedded(page)
    assert (data["rate"], data["span"], len(data["seconds"])) == (10.0, 1, 30)
    assert data["seconds"][-1] == pytest.approx(2.9)
    assert result.confusion is not None
    rows, columns = scrubber.shown_classes(result.confusion)
    total = np.zeros((data["rows"], data["columns"]), np.int64)
    for step in data["confusion"]:
        assert sum(pixels for _, _, pixels in step) == 24 * 32
        for row, column, pixels in step:
            total[row, column] += pixels
    np.testing.assert_array_equal(total, result.confusion[np.ix_(rows, columns)])
    live = re.findall(r'data-cell="(\d+),(\d+)"', page)
    assert len(live) == len(rows) * len(columns)


def test_frames_of_a_long_run_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubber, "MAX_STEPS", 4)
    result = with_video(tmp_path, 10)
    data = embedded(page_of(tmp_path, result)[0])
    assert data["span"] == 3
    assert [sum(pixels for _, _, pixels in step) for step in data["confusion"]] == [3 * 768, 3 * 768, 3 * 768, 768]


def test_without_labels_the_video_is_shown_alone(tmp_path: Path) -> None:
    page, _ = page_of(tmp_path, with_video(tmp_path, 3, labelled=False))
    assert "<video" in page
    assert embedded(page)["confusion"] == []
    assert "data-cell" not in page.replace("[data-cell]", "")


def test_without_a_video_there_is_no_player(tmp_path: Path) -> None:
    page, _ = page_of(tmp_path, evaluated(tmp_path, 3))
    assert "<video" not in page
    assert "scrubber" not in page
