from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from seg_perception.bag import charts
from seg_perception.bag.evaluation import Evaluation
from seg_perception.bag.panels import WRONG_COLOUR, error_panel, fitted, superpixel_panel
from seg_perception.bag.report import write_report
from seg_perception.bag.result import EvaluationResult
from seg_perception.model.model_file import read_model_info
from seg_perception.segmenter import Segmentation
from test.seg_perception.tiny_model import CLASS_NAMES, write_tiny_model

VOID = {"meta", "img", "link", "br", "input", "rect", "line", "circle", "polyline"}


class PageCheck(HTMLParser):
    """Checks that tags are closed in order and collects what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.references: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def evaluated(tmp_path: Path, frames: int, labelled: bool = True, name: str = "tiny") -> EvaluationResult:
    info = read_model_info(write_tiny_model(tmp_path / "m.onnx", changes={"name": name}))
    evaluation = Evaluation(info, "from here to there")
    rng = np.random.default_rng(0)
    for index in range(frames):
        truth = rng.integers(0, 3, (24, 32), np.uint8)
        predicted = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, 4, truth.shape)).astype(np.uint8)
        segmentation = Segmentation(
            predicted, np.full_like(predicted, 180), predicted.astype(np.uint16), {"infer": 5.0, "paint": 0.1}
        )
        rgb = rng.integers(0, 256, (24, 32, 3), np.uint8)
        evaluation.add(
            rgb, segmentation, truth if labelled else None, latency_ms=5.0 + index % 3, stamp_ns=index * 10**8
        )
    return evaluation.result(
        engine="tiny",
        engine_description="tiny 1.0",
        frames_in=frames,
        source={"bag": "some/bag.mcap", "image topic": "/camera"},
        wall_s=1.0,
        environment={"date": "2026-01-01", "processor": "a <quick> one"},
        warnings=["the bag & its end are cut"],
        truncated=True,
    )


def page_of(tmp_path: Path, result: EvaluationResult) -> tuple[str, PageCheck]:
    _, page_path = write_report(tmp_path / "new" / "out", result)
    page = page_path.read_text()
    check = PageCheck()
    check.feed(page)
    check.close()
    assert check.open_tags == []
    return page, check


def test_the_json_has_the_keys_that_programs_rely_on(tmp_path: Path) -> None:
    json_path, _ = write_report(tmp_path / "out", evaluated(tmp_path, 4))
    report = json.loads(json_path.read_text())
    keys = "miou pixel_accuracy iou frames_in frames_out frames_dropped latency_ms engine model"
    assert set(keys.split()) <= set(report)
    assert set(report["latency_ms"]) == {"p50", "p95", "p99"}
    assert set(report["iou"]) == set(CLASS_NAMES)


def test_the_page_is_one_file_without_links_out(tmp_path: Path) -> None:
    page, check = page_of(tmp_path, evaluated(tmp_path, 30))
    assert check.references
    assert all(reference.startswith("data:image/jpeg;base64,") for reference in check.references)
    assert not re.search(r"https?://|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page


def test_the_page_shows_figures_pictures_and_charts(tmp_path: Path) -> None:
    result = evaluated(tmp_path, 30)
    page, check = page_of(tmp_path, result)
    text = " ".join(check.text)
    assert f"{result.miou:.3f}" in text
    for expected in (*CLASS_NAMES, "ground truth", "superpixels", "Worst frames", "wrong pixels in red", "bag.mcap"):
        assert expected in text
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawing)
    assert page.count("<svg") == 4  # score over time, confusion, latency over time and its histogram
    assert "<title>dark taken for red:" in page


def test_names_and_messages_are_escaped(tmp_path: Path) -> None:
    page, _ = page_of(tmp_path, evaluated(tmp_path, 2, name="<script>alert(1)</script>"))
    assert "<script>alert" not in page
    assert "a &lt;quick&gt; one" in page
    assert "the bag &amp; its end are cut" in page


@pytest.mark.parametrize(("frames", "labelled"), [(0, True), (1, True), (1, False), (12, False)])
def test_few_frames_or_none_or_no_labels_make_a_page_too(tmp_path: Path, frames: int, labelled: bool) -> None:
    page, _ = page_of(tmp_path, evaluated(tmp_path, frames, labelled))
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page).lower()
    assert ("What is taken for what" in page) == (labelled and frames > 0)


def test_a_long_line_is_thinned_but_keeps_its_outliers() -> None:
    y = np.full(20_000, 5.0)
    y[12_345] = 99.0
    drawing = charts.line_chart(np.arange(len(y), dtype=float), y, x_title="time, s", y_title="latency, ms")
    points = re.search(r'points="([^"]*)"', drawing)
    assert points is not None
    heights = [float(point.split(",")[1]) for point in points[1].split()]
    assert len(heights) <= charts.MAX_POINTS
    assert min(heights) < charts.TOP + 20  # the outlier reaches the top of the chart
    assert sum(height < charts.TOP + 20 for height in heights) == 1


def test_gaps_in_a_line_stay_gaps() -> None:
    y = np.array([1.0, 2.0, np.nan, 3.0, np.nan, 2.0, 1.0])
    drawing = charts.line_chart(np.arange(7.0), y, x_title="x", y_title="y")
    assert drawing.count("<polyline") == 2
    assert drawing.count("<circle") == 1


def test_equal_latencies_make_a_histogram() -> None:
    ElementTree.fromstring(charts.histogram(np.full(5, 3.0), x_title="ms", levels={"p50": 3.0}))


def test_wrong_pixels_are_red_and_unlabelled_ones_dark() -> None:
    rgb = np.full((1, 3, 3), 120, np.uint8)
    panel = error_panel(rgb, np.array([[1, 2, 3]], np.uint8), np.array([[1, 1, 255]], np.uint8))
    right, wrong, unlabelled = panel[0].astype(int)
    assert right[0] == right[1] == right[2]
    assert np.abs(wrong - np.array(WRONG_COLOUR)).max() < np.abs(right - np.array(WRONG_COLOUR)).max()
    assert unlabelled.max() < right.min()


def test_outlines_show_on_light_and_dark_ground() -> None:
    superpixels = np.tile(np.array([0, 0, 1, 1], np.uint16), (4, 1))
    for level in (10, 245):
        rgb = np.full((4, 4, 3), level, np.uint8)
        panel = superpixel_panel(rgb, superpixels)
        np.testing.assert_array_equal(panel[:, [0, 2, 3]], rgb[:, [0, 2, 3]])
        assert np.abs(panel[:, 1].astype(int) - level).max() > 150


def test_a_picture_is_fitted_with_its_proportions() -> None:
    picture = np.full((10, 40, 3), 200, np.uint8)
    panel = fitted(picture, (20, 20))
    assert panel.shape == (20, 20, 3)
    assert (panel[7:13] == 200).sum() == 5 * 20 * 3
    assert panel[0].max() == 0
