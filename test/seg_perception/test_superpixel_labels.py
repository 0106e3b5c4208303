"""The class of each superpixel, and labels painted from it."""

from __future__ import annotations

import numpy as np

from seg_perception.superpixel_labels import paint_superpixels, superpixel_labels, voted_superpixel_labels


def test_each_superpixel_has_its_most_probable_class() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (12, 16, 7)).astype(np.float32)
    labels, confidence = superpixel_labels(logits)
    wide = np.exp(logits.astype(np.float64))
    probability = wide / wide.sum(-1, keepdims=True)
    np.testing.assert_array_equal(labels, probability.argmax(-1))
    # 0.51: rounding to a whole number, and float32 where a value lies on the border of two
    assert np.abs(confidence - 255 * probability.max(-1)).max() < 0.51
    assert (labels.dtype, confidence.dtype) == (np.uint8, np.uint8)


def test_of_equal_scores_the_first_class_wins_and_large_ones_do_not_overflow() -> None:
    logits = np.array([[[5, 5, 1], [1e4, -1e4, 0]]], np.float16)
    labels, confidence = superpixel_labels(logits)
    np.testing.assert_array_equal(labels, [[0, 0]])
    assert confidence[0, 1] == 255


def test_scores_that_are_not_finite_are_not_labelled() -> None:
    logits = np.zeros((1, 4, 2), np.float32)
    logits[0, 0, 1], logits[0, 1, 0], logits[0, 2, 0] = np.nan, np.inf, -np.inf
    labels, confidence = superpixel_labels(logits)
    np.testing.assert_array_equal(labels, [[255, 255, 255, 0]])
    np.testing.assert_array_equal(confidence, [[0, 0, 0, 128]])


def test_labels_are_painted_by_one_look_up() -> None:
    superpixels = np.array([[0, 1, 1], [2, 5, 5]], np.uint16)
    small = np.array([[7, 255, 3], [0, 0, 9]], np.uint8)
    np.testing.assert_array_equal(paint_superpixels(superpixels, small), [[7, 255, 255], [3, 9, 9]])


def test_where_there_are_no_scores_most_pixels_decide() -> None:
    rng = np.random.default_rng(0)
    superpixels, labels = (
        rng.integers(0, 11, (40, 60), np.uint16),
        rng.choice([0, 1, 2, 255], (40, 60)).astype(np.uint8),
    )
    voted = voted_superpixel_labels(superpixels, labels, (3, 4))
    for index in range(11):
        votes = [int((labels[superpixels == index] == label).sum()) for label in range(256)]
        assert votes[voted.flat[index]] == max(votes)
        assert voted.flat[index] == votes.index(max(votes))
    assert voted[2, 3] == 255  # nothing belongs to the last superpixel
    assert voted.dtype == np.uint8
    np.testing.assert_array_equal(
        voted_superpixel_labels(superpixels + np.uint16(6), labels, (2, 3)), np.full((2, 3), 255)
    )
