"""Quality of superpixels, beside their definitions written plainly, and SLIC beside scikit-image's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.stats import entropy
from skimage.segmentation import find_boundaries
from skimage.segmentation import slic as skimage_slic

from seg_models.evaluation.measures import UNLABELLED, Sample, Segmented
from seg_models.evaluation.superpixels import SuperpixelQuality, cells, slic_superpixels, superpixel_measures
from test.seg_models.evaluation.scenes import sample


def plain_measures(owner: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Set by set, as the definitions read."""
    known = labels != UNLABELLED
    total = known.sum()
    reached, leaked, bits = 0, 0, []
    for j in np.unique(owner):
        inside = known & (owner == j)
        overlaps = [(inside & (labels == i)).sum() for i in range(4)]
        if not inside.any():
            continue
        reached += max(overlaps)
        leaked += sum(min(n, inside.sum() - n) for n in overlaps)
        bits.append(entropy(overlaps, base=2))
    round_ = 0.0
    for j in np.unique(owner):
        mask = np.pad(owner == j, 1)
        sides = sum((mask & ~np.roll(mask, shift, axis)).sum() for shift in (1, -1) for axis in (0, 1))
        round_ += mask.sum() / owner.size * 4 * np.pi * mask.sum() / sides**2
    return {
        "achievable_accuracy": reached / total,
        "undersegmentation_error": leaked / total,
        "compactness": round_,
        "entropy_bits": float(np.mean(bits)),
        "one_class_share": float(np.mean(np.array(bits) < 1e-9)),
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_measures_are_those_of_their_definitions(seed):
    one = sample(0, seed=seed)
    assert one.predicted.superpixels is not None
    owner = one.predicted.superpixels.astype(np.int64)
    found = superpixel_measures(owner, one.labels, 35, 4)
    for name, expected in plain_measures(owner, one.labels).items():
        assert found[name] == pytest.approx(expected, abs=1e-12), name
    assert found["superpixels"] == len(np.unique(owner))


def test_boundary_recall_is_the_share_of_edges_near_a_superpixels():
    one = sample(0, seed=5)
    labels = one.labels.copy()
    labels[labels == UNLABELLED] = 0  # scikit-image knows no unlabelled pixels
    owner = cells((5, 7), labels.shape)
    edges = find_boundaries(labels, connectivity=1, mode="thick")
    near = binary_dilation(find_boundaries(owner, connectivity=1, mode="thick"), np.ones((3, 3)))  # r = 1 at this size
    found = superpixel_measures(owner, labels, 35, 4)["boundary_recall"]
    assert found == pytest.approx(near[edges].mean(), abs=1e-12)
    assert 0.2 < found < 1


def test_squares_have_the_compactness_of_squares_and_the_truth_itself_is_perfect():
    owner = cells((4, 4), (32, 32))
    assert superpixel_measures(owner, np.zeros((32, 32), np.uint8), 16, 4)["compactness"] == pytest.approx(np.pi / 4)
    labels = sample(0, seed=6).labels % 4
    found = superpixel_measures(labels.astype(np.int64), labels, 4, 4)
    assert (found["achievable_accuracy"], found["undersegmentation_error"]) == (1, 0)
    assert (found["boundary_recall"], found["entropy_bits"], found["one_class_share"]) == (1, 0, 1)


def test_slic_of_the_same_count_stands_beside_the_models_and_beats_cells_on_even_colours():
    measure = SuperpixelQuality(4)
    for i in range(2):
        measure.add(sample(i, seed=40 + i))
    figures = measure.figures()
    assert set(figures) == {"model", "slic", "cells"}
    assert figures["cells"]["superpixels"] == 35
    assert figures["slic"]["superpixels"] <= 35
    assert figures["slic"]["achievable_accuracy"] > figures["cells"]["achievable_accuracy"]
    assert figures["slic"]["achievable_miou"] > figures["cells"]["achievable_miou"]
    assert figures["cells"]["compactness"] > figures["slic"]["compactness"]


def test_slic_is_as_good_as_scikit_images():
    """scikit-image's has about as many, joined fragments, and another start: the two are alike, not the same."""
    one = sample(0, seed=50)
    mine = slic_superpixels(one.image, (5, 7), one.labels.shape)
    theirs = skimage_slic(one.image, n_segments=35, compactness=10, start_label=0, enforce_connectivity=False)
    assert len(np.unique(theirs)) == pytest.approx(35, abs=7)
    found, expected = (
        superpixel_measures(owner.astype(np.int64), one.labels, int(owner.max()) + 1, 4) for owner in (mine, theirs)
    )
    assert found["achievable_accuracy"] == pytest.approx(expected["achievable_accuracy"], abs=0.03)
    assert found["boundary_recall"] == pytest.approx(expected["boundary_recall"], abs=0.1)


def test_a_prediction_without_superpixels_is_refused():
    labels = np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match="the model gives no superpixels"):
        SuperpixelQuality(4).add(Sample(0, np.zeros((8, 8, 3), np.uint8), labels, Segmented(labels, labels)))
