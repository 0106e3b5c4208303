from __future__ import annotations

import math

import numpy as np
import pytest

from seg_perception.bag.metrics import ConfusionMatrix, LabelIdError, percentiles, scores


def test_scores_are_those_worked_out_by_hand() -> None:
    labels = np.array([[0, 0, 0, 1], [1, 1, 2, 255]], np.uint8)
    predicted = np.array([[0, 0, 1, 1], [1, 0, 3, 3]], np.uint8)
    matrix = ConfusionMatrix(4)
    frame = matrix.add(labels, predicted)
    np.testing.assert_array_equal(frame, [[2, 1, 0, 0, 0], [1, 2, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]])
    result = matrix.scores()
    # Class 0: 2 right, 1 missed, 1 too many; class 1 alike; class 2 never found; class 3 is not in the labels.
    np.testing.assert_allclose(result.iou, [2 / 4, 2 / 4, 0, math.nan])
    assert result.miou == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert result.pixel_accuracy == pytest.approx(4 / 7)


def test_a_pixel_left_without_a_prediction_is_missed() -> None:
    matrix = ConfusionMatrix(2)
    matrix.add(np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 255, 1, 255]], np.uint8))
    np.testing.assert_array_equal(matrix.counts, [[1, 0, 1], [0, 1, 0]])
    assert matrix.scores().iou.tolist() == [0.5, 1.0]
    assert matrix.scores().pixel_accuracy == pytest.approx(2 / 3)


def test_frames_add_up_as_one_large_frame() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (6, 20, 30), np.uint8)
    labels[rng.random(labels.shape) < 0.1] = 255
    predicted = rng.integers(0, 5, labels.shape, np.uint8)
    apart, together = ConfusionMatrix(5), ConfusionMatrix(5)
    frames = [apart.add(*pair) for pair in zip(labels, predicted, strict=True)]
    together.add(labels.reshape(120, 30), predicted.reshape(120, 30))
    np.testing.assert_array_equal(apart.counts, together.counts)
    np.testing.assert_array_equal(sum(frames), together.counts)
    for true in range(5):
        for guess in range(5):
            assert together.counts[true, guess] == np.sum((labels == true) & (predicted == guess))


def test_counts_beyond_32_bits_are_kept() -> None:
    matrix = ConfusionMatrix(1)
    matrix.counts[0, 0] = 2**33
    matrix.add(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))
    assert matrix.counts[0, 0] == 2**33 + 4


def test_without_labelled_pixels_there_are_no_scores() -> None:
    result = scores(np.zeros((3, 4), np.int64))
    assert math.isnan(result.miou)
    assert math.isnan(result.pixel_accuracy)
    assert np.isnan(result.iou).all()


def test_ids_that_are_no_class_are_named_and_nothing_is_counted() -> None:
    matrix = ConfusionMatrix(3)
    good = np.zeros((2, 2), np.uint8)
    with pytest.raises(LabelIdError, match="labels hold the ids 3, 200; expected 0 to 2, or 255") as caught:
        matrix.add(np.array([[3, 200], [0, 255]], np.uint8), good)
    assert caught.value.of_labels
    with pytest.raises(LabelIdError, match="predictions hold the ids 7; expected 0 to 2") as caught:
        matrix.add(good, np.array([[0, 7], [0, 255]], np.uint8))
    assert not caught.value.of_labels
    assert matrix.counts.sum() == 0


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="labels are 3x2 pixels, the prediction is 2x2"):
        ConfusionMatrix(2).add(np.zeros((2, 3), np.uint8), np.zeros((2, 2), np.uint8))


def test_percentiles_interpolate() -> None:
    assert percentiles(list(range(101))) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert percentiles([1.0, 3.0])["p50"] == 2.0
    assert percentiles([]) == {"p50": None, "p95": None, "p99": None}
