"""mIoU by size of objects, beside SciPy's labelling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from seg_models.evaluation.object_sizes import ObjectSizes
from test.seg_models.evaluation.scenes import sample

# Segmenter, Tables 3 and 4: mIoU, and that of small, medium and large objects.
PRINTED = {
    "DeepLab V3+": (45.47, (36.88, 50.33, 49.19)),
    "Seg-B/32": (40.92, (27.15, 44.98, 50.63)),
    "Seg-B/8": (48.06, (37.34, 52.33, 54.51)),
    "Seg-L/16": (48.60, (37.84, 52.66, 55.25)),
}


@pytest.mark.parametrize("row", PRINTED)
def test_printed_sizes_are_thirds_of_the_classes(row):
    """What the measure assumes: their mean is the printed mIoU, to rounding."""
    mean, sizes = PRINTED[row]
    assert np.mean(sizes) == pytest.approx(mean, abs=0.025)


def test_classes_are_ordered_by_the_mean_area_of_their_objects():
    names = tuple("abcdef")
    samples = [sample(i, seed=30 + i, classes=6) for i in range(4)]
    measure = ObjectSizes(names)
    areas: dict[int, list[float]] = {k: [] for k in range(6)}
    for one in samples:
        measure.add(one)
        for k in range(6):
            parts, count = ndimage.label(one.labels == k, np.ones((3, 3)))
            areas[k] += [float((parts == number + 1).mean()) for number in range(count)]
    assert measure.mean_areas() == {k: pytest.approx(np.mean(v)) for k, v in areas.items()}
    figures = measure.figures()
    order = sorted(areas, key=lambda k: np.mean(areas[k]))
    assert [list(group["classes"]) for group in figures.values()] == [
        [names[k] for k in order[i : i + 2]] for i in (0, 2, 4)
    ]
    iou = measure.classes.scores().iou
    assert figures["small"]["miou"] == pytest.approx((iou[order[0]] + iou[order[1]]) / 2)
    assert np.mean([group["miou"] for group in figures.values()]) == pytest.approx(measure.classes.scores().miou)
