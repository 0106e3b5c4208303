from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from seg_perception.bag.evaluation import (
    PICTURE_WIDTH,
    SAMPLE_FRAMES,
    WORST_FRAMES,
    BlockKeeper,
    Evaluation,
    EvaluationResult,
)
from seg_perception.model.model_file import ModelInfo, read_model_info
from seg_perception.segmenter import Segmentation
from test.seg_perception.tiny_model import CLASS_NAMES, write_tiny_model


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return read_model_info(write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def segmentation(labels: np.ndarray, confidence: int = 200) -> Segmentation:
    return Segmentation(
        labels,
        np.full_like(labels, confidence),
        labels.astype(np.uint16),
        timings_ms={"infer": 4.0, "paint": 1.0},
    )


def result_of(evaluation: Evaluation, frames_in: int) -> EvaluationResult:
    return evaluation.result(engine="tiny", engine_description="tiny 1.0", frames_in=frames_in, wall_s=2.0)


def test_scores_latencies_and_counts_are_those_worked_out_by_hand(info: ModelInfo) -> None:
    evaluation = Evaluation(info, "here to there")
    rgb = np.zeros((2, 4, 3), np.uint8)
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
    evaluation.add(rgb, segmentation(np.zeros((2, 4), np.uint8)), truth, latency_ms=10.0, stamp_ns=0)
    evaluation.add(rgb, segmentation(truth % 255), truth, latency_ms=20.0, stamp_ns=10**9)
    evaluation.add(rgb, segmentation(truth % 255), None, latency_ms=30.0, stamp_ns=2 * 10**9)
    report = result_of(evaluation, frames_in=5).to_dict()
    # Class 0: 4 + 4 right, 3 too many from the first frame. Class 1: 3 of 6 found.
    assert report["iou"] == {"dark": pytest.approx(8 / 11), "red": pytest.approx(0.5), "green": None, "yellow": None}
    assert report["miou"] == pytest.approx((8 / 11 + 0.5) / 2)
    assert report["pixel_accuracy"] == pytest.approx(11 / 14)
    assert (report["frames_in"], report["frames_out"], report["frames_dropped"]) == (5, 3, 2)
    assert report["frames_labelled"] == 2
    assert report["latency_ms"] == {"p50": 20.0, "p95": pytest.approx(29.0), "p99": pytest.approx(29.8)}
    assert report["stages_ms"]["infer"]["p50"] == 4.0
    assert report["frames_per_second"] == pytest.approx(1.5)
    assert (report["engine"], report["model"]) == ("tiny", "tiny")
    assert report["image_sizes"] == {"4x2": 3}


def test_without_labels_scores_are_null_and_json_stays_strict(info: ModelInfo) -> None:
    evaluation = Evaluation(info, "here to there")
    evaluation.add(np.zeros((2, 2, 3), np.uint8), segmentation(np.zeros((2, 2), np.uint8)), latency_ms=1.0, stamp_ns=0)
    for result in (result_of(evaluation, 1), result_of(Evaluation(info, ""), 0)):
        report = json.loads(result.to_json(), parse_constant=pytest.fail)
        assert report["miou"] is None
        assert report["pixel_accuracy"] is None
        assert report["iou"] == dict.fromkeys(CLASS_NAMES)
        assert "none: the frames have no labels" in result.summary()[0]


def test_labels_without_a_single_labelled_pixel_give_null_scores(info: ModelInfo) -> None:
    evaluation = Evaluation(info, "")
    blank = np.full((2, 2), 255, np.uint8)
    evaluation.add(np.zeros((2, 2, 3), np.uint8), segmentation(blank % 2), blank, latency_ms=1.0, stamp_ns=0)
    assert json.loads(result_of(evaluation, 1).to_json())["miou"] is None


def test_kept_frames_are_reduced_spread_out_and_include_the_worst(info: ModelInfo) -> None:
    evaluation = Evaluation(info, "")
    rng = np.random.default_rng(0)
    truth = np.zeros((10, 960), np.uint8)
    for index in range(500):
        predicted = (rng.random(truth.shape) < (0.9 if index == 321 else 0.1)).astype(np.uint8)
        evaluation.add(
            np.full((10, 960, 3), index % 256, np.uint8), segmentation(predicted), truth, latency_ms=1.0, stamp_ns=index
        )
    result = result_of(evaluation, 500)
    indices = [frame.index for frame in result.samples]
    assert len(indices) == SAMPLE_FRAMES
    assert indices[0] == 0
    assert max(np.diff([*indices, 500])) <= 2 * 500 / SAMPLE_FRAMES
    assert len(result.worst) == WORST_FRAMES
    assert result.worst[0].index == 321
    assert [frame.miou for frame in result.worst] == sorted(frame.miou for frame in result.worst)
    assert result.samples[0].rgb.shape == (5, PICTURE_WIDTH, 3)
    assert result.samples[0].superpixels is not None


def test_without_labels_the_least_confident_frames_count_as_worst(info: ModelInfo) -> None:
    evaluation = Evaluation(info, "")
    for index, confidence in enumerate([200, 90, 210, 30]):
        predicted = segmentation(np.zeros((2, 2), np.uint8), confidence)
        evaluation.add(np.zeros((2, 2, 3), np.uint8), predicted, latency_ms=1.0, stamp_ns=index)
    worst = result_of(evaluation, 4).worst
    assert [frame.index for frame in worst] == [3, 1, 0, 2]
    assert worst[0].mean_confidence == pytest.approx(30 / 255)
    assert math.isnan(worst[0].miou)


def test_the_keeper_makes_few_items_and_keeps_the_smallest_of_each_block() -> None:
    keys = np.random.default_rng(2).random(1000)
    made: list[int] = []
    keeper: BlockKeeper[int] = BlockKeeper(8)
    for index, key in enumerate(keys):

        def make(index: int = index) -> int:
            made.append(index)
            return index

        keeper.offer(key, make)
    kept = keeper.kept()
    assert 4 <= len(kept) <= 8
    span = 128  # 1000 items in at most 8 blocks, doubling from 1
    assert kept == [start + int(np.argmin(keys[start : start + span])) for start in range(0, 1000, span)]
    assert len(made) < 150


def test_a_prediction_of_another_size_is_refused(info: ModelInfo) -> None:
    with pytest.raises(ValueError, match="labels are 3x2 pixels, the prediction is 2x2"):
        Evaluation(info, "").add(
            np.zeros((2, 2, 3), np.uint8),
            segmentation(np.zeros((2, 2), np.uint8)),
            np.zeros((2, 3), np.uint8),
            latency_ms=1.0,
            stamp_ns=0,
        )


def test_model_facts_and_source_are_in_the_report(info: ModelInfo, tmp_path: Path) -> None:
    result = Evaluation(info, "").result(
        engine="tiny", engine_description="tiny 1.0", frames_in=0, source={"bag": str(tmp_path)}, truncated=True,
        warnings=["cut"], drop_reasons={"damaged message": 2}, environment={"cores": "2 usable"},
    )  # fmt: skip
    report = json.loads(result.to_json())
    assert report["model_info"]["class_names"] == list(CLASS_NAMES)
    assert report["truncated"] is True
    assert report["warnings"] == ["cut"]
    assert report["drop_reasons"] == {"damaged message": 2}
    assert report["source"] == {"bag": str(tmp_path)}
