"""Boundary F-score and bands around edges, beside plain loops and scikit-image with SciPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import find_boundaries

from seg_models.evaluation.boundaries import BoundaryF, Trimap, distance_to_another_class
from seg_models.evaluation.measures import UNLABELLED, Sample, Segmented, labelled_edges
from test.seg_models.evaluation.scenes import blobs, sample

NAMES = ("a", "b", "c", "d")


def plain_edges(labels: np.ndarray, number: int) -> list[tuple[int, int]]:
    """Pixels of a class beside one of another class, by loops."""
    height, width = labels.shape
    found = []
    for y, x in itertools.product(range(height), range(width)):
        if labels[y, x] != number:
            continue
        near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        values = [labels[r, c] for r, c in near if 0 <= r < height and 0 <= c < width]
        if any(value not in (number, UNLABELLED) for value in values):
            found.append((y, x))
    return found


def plain_f(one: Sample, tolerance: float) -> float:
    """Csurka et al.'s score of an image: every pair of edge pixels is looked at."""
    reach = tolerance * math.hypot(*one.labels.shape)
    predicted = np.where(one.labels == UNLABELLED, UNLABELLED, one.predicted.labels)
    values = []
    for number in range(4):
        truth, mine = plain_edges(one.labels, number), plain_edges(predicted, number)
        if not truth:
            continue
        if not mine:
            values.append(0.0)
            continue
        distances = np.hypot(*(np.array(mine)[:, None] - np.array(truth)[None]).transpose(2, 0, 1))
        precision, recall = (distances.min(1) <= reach).mean(), (distances.min(0) <= reach).mean()
        values.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return float(np.mean(values))


@pytest.mark.parametrize("tolerance", [0.0075, 0.03])
def test_boundary_f_is_that_of_plain_loops(tolerance):
    samples = [sample(i, seed=10 + i) for i in range(3)]
    measure = BoundaryF(NAMES, tolerance)
    for one in samples:
        measure.add(one)
    expected = np.mean([plain_f(one, tolerance) for one in samples])
    assert measure.figures()["mean"] == pytest.approx(expected, abs=1e-9)
    assert 0 < expected < 1


def test_a_perfect_prediction_scores_one_and_images_without_an_edge_do_not_count():
    labels = blobs(np.random.default_rng(0))
    measure = BoundaryF(NAMES)
    measure.add(Sample(0, np.zeros((*labels.shape, 3), np.uint8), labels, Segmented(labels % 4, labels)))
    assert measure.figures()["mean"] == 1.0
    flat = np.zeros((8, 8), np.uint8)
    measure.add(Sample(1, np.zeros((8, 8, 3), np.uint8), flat, Segmented(flat, flat)))
    assert measure.figures()["mean"] == 1.0
    assert BoundaryF(NAMES).figures()["mean"] is None


def test_edges_are_scikit_images_where_everything_is_labelled():
    labels = blobs(np.random.default_rng(1)) % 4
    assert np.array_equal(labelled_edges(labels), find_boundaries(labels, connectivity=1, mode="thick"))


def test_distances_are_scipys():
    labels = blobs(np.random.default_rng(2))
    found = distance_to_another_class(labels)
    for number in range(4):
        others = (labels != number) & (labels != UNLABELLED)
        expected = distance_transform_edt(~others)
        mine = labels == number
        assert found[mine] == pytest.approx(expected[mine], abs=1e-3)  # OpenCV's are float32
    assert np.isinf(found[labels == UNLABELLED]).all()
    assert np.isinf(distance_to_another_class(np.zeros((4, 4), np.uint8))).all()


def test_bands_hold_the_pixels_so_near_to_another_class():
    samples = [sample(i, seed=20 + i) for i in range(2)]
    trimap = Trimap(4, (1, 3))
    for one in samples:
        trimap.add(one)
    for band in (1, 3):
        hit, union = np.zeros(4), np.zeros(4)
        for one in samples:
            near = np.zeros(one.labels.shape, bool)
            for number in range(4):
                others = (one.labels != number) & (one.labels != UNLABELLED)
                near |= (one.labels == number) & (distance_transform_edt(~others) <= band)
            truth, predicted = one.labels[near], one.predicted.labels[near]
            hit += [((truth == k) & (predicted == k)).sum() for k in range(4)]
            union += [((truth == k) | (predicted == k)).sum() for k in range(4)]
        assert trimap.figures()[str(band)] == pytest.approx((hit / union).mean(), abs=1e-12)
