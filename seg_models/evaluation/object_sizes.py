"""mIoU by the size of objects (Segmenter, Table 4).

The paper does not say what small, medium and large are. In each of its rows with a figure in Table 3 the mean of the three is
that figure (Seg-B/32: 27.15, 44.98, 50.63 and 40.92; only Seg-B/16 is 0.1 off), which is so if they are thirds of the classes. So
classes are put in the order of the mean area of their objects, and cut into three. An object is what hangs together of a class
in a mask, corners included; its area is counted in shares of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from typing_extensions import Self

from seg_models.evaluation.class_scores import ClassScores
from seg_models.evaluation.measures import UNLABELLED, Measure, Sample, joined, mean_of, shown

SIZES = ("small", "medium", "large")


class ObjectSizes(Measure):
    """mIoU of the third of the classes with the smallest objects, of the middle one, and of the largest.

    Args:
        names: of the classes.
    """

    name = "object_sizes"

    def __init__(self, names: Sequence[str]) -> None:
        self.classes = ClassScores(names)
        self.objects: dict[int, dict[int, tuple[int, float]]] = {}  # image: class: number and areas' sum

    def add(self, sample: Sample) -> None:
        self.classes.add(sample)
        found = {}
        for number in np.unique(sample.labels).tolist():
            if number != UNLABELLED:
                mask = (sample.labels == number).astype(np.uint8)
                found[number] = (cv2.connectedComponents(mask, connectivity=8)[0] - 1, float(mask.mean()))
        self.objects[sample.index] = found

    def merge(self, other: Self) -> None:
        self.classes.merge(other.classes)
        self.objects = joined(self.objects, other.objects)

    def mean_areas(self) -> dict[int, float]:
        """Mean area of an object of each class in the labels, as a share of the image."""
        count = dict.fromkeys(range(len(self.classes.names)), 0)
        area = dict.fromkeys(count, 0.0)
        for _, found in sorted(self.objects.items()):
            for number, (objects, share) in found.items():
                count[number] += objects
                area[number] += share
        return {number: area[number] / count[number] for number in count if count[number]}

    def figures(self) -> dict[str, Any]:
        areas = self.mean_areas()
        iou = self.classes.scores().iou
        order = sorted(areas, key=lambda number: (areas[number], number))
        return {
            size: {
                "miou": mean_of([value for k in part.tolist() if (value := iou[k]) is not None]),
                "classes": {self.classes.names[k]: areas[k] for k in part.tolist()},
            }
            for size, part in zip(SIZES, np.array_split(np.array(order, int), len(SIZES)), strict=True)
        }

    def lines(self) -> list[str]:
        found = ", ".join(f"{size} {shown(group['miou'])}" for size, group in self.figures().items())
        return [f"mIoU by size of objects, thirds of the classes: {found}"]
