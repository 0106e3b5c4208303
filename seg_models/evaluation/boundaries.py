"""How well edges are met: boundary F-score (Csurka et al., 2013) and mIoU in bands around edges (Kohli et al., 2009).

An edge lies between two labelled classes. Where the truth has no label, neither truth nor prediction has an edge, and the frame
of the image is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from typing_extensions import Self

from seg_models.evaluation.class_scores import pair_counts, scores_of
from seg_models.evaluation.measures import UNLABELLED, Measure, Sample, joined, labelled_edges, mean_of, shown

TOLERANCE = 0.0075  # of the image's diagonal, as Csurka et al.
BANDS = (1, 2, 4, 8, 16)  # pixels


def distance_to(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest one of a mask, bool (H, W): float32 (H, W), in pixels, exact to rounding."""
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


class BoundaryF(Measure):
    """F-score of each class's edge pixels, those of truth and prediction that lie within a tolerance of each other.

    Of an image and a class: precision is the share of the prediction's edge pixels that are near one of the truth's, recall the
    other way round, F their harmonic mean; 0 where the class has an edge in the truth alone. Classes without an edge in
    an image's truth do not count for it. The score is the mean over an image's classes, then over images.

    Args:
        names: of the classes.
        tolerance: distance that still counts, as a share of the image's diagonal.
    """

    name = "boundary_f"

    def __init__(self, names: Sequence[str], tolerance: float = TOLERANCE) -> None:
        self.names, self.tolerance = tuple(names), tolerance
        self.images: dict[int, dict[int, float]] = {}

    def add(self, sample: Sample) -> None:
        truth = sample.labels
        predicted = np.where(truth == UNLABELLED, UNLABELLED, sample.predicted.labels)
        reach = self.tolerance * math.hypot(*truth.shape)
        true_edges, edges = labelled_edges(truth), labelled_edges(predicted)
        found = {}
        for number in np.unique(truth[true_edges]).tolist():
            mine, theirs = edges & (predicted == number), true_edges & (truth == number)
            if not mine.any():
                found[number] = 0.0
                continue
            precision = float((distance_to(theirs)[mine] <= reach).mean())
            recall = float((distance_to(mine)[theirs] <= reach).mean())
            found[number] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        self.images[sample.index] = found

    def merge(self, other: Self) -> None:
        self.images = joined(self.images, other.images)

    def figures(self) -> dict[str, Any]:
        images = [list(found.values()) for _, found in sorted(self.images.items()) if found]
        by_class = {
            name: mean_of([found[k] for _, found in sorted(self.images.items()) if k in found])
            for k, name in enumerate(self.names)
        }
        mean = mean_of([float(np.mean(values)) for values in images])
        return {"mean": mean, "classes": by_class, "tolerance_of_diagonal": self.tolerance}

    def lines(self) -> list[str]:
        figures = self.figures()
        return [f"boundary F {shown(figures['mean'])}  (within {100 * self.tolerance:g} % of the image's diagonal)"]


class Trimap(Measure):
    """mIoU of the pixels at most so far from the nearest pixel of another class, for several distances.

    Args:
        num_classes: K.
        bands: distances in pixels of the mask, Euclidean: 1 is the two rows of pixels along an edge.
    """

    name = "trimap"

    def __init__(self, num_classes: int, bands: Sequence[int] = BANDS) -> None:
        self.bands = tuple(bands)
        self.counts = {band: np.zeros((num_classes, num_classes + 1), np.int64) for band in self.bands}

    def add(self, sample: Sample) -> None:
        distance = distance_to_another_class(sample.labels)
        for band, counts in self.counts.items():
            chosen = distance <= band
            counts += pair_counts(sample.labels[chosen], sample.predicted.labels[chosen], len(counts))

    def merge(self, other: Self) -> None:
        for band, counts in self.counts.items():
            counts += other.counts[band]

    def figures(self) -> dict[str, Any]:
        def miou(counts: np.ndarray) -> float | None:
            value = scores_of(counts).miou
            return None if math.isnan(value) else value

        return {str(band): miou(counts) for band, counts in self.counts.items()}

    def lines(self) -> list[str]:
        found = ", ".join(f"{band} px {shown(value)}" for band, value in self.figures().items())
        return [f"mIoU at most so far from another class: {found}"]


def distance_to_another_class(labels: np.ndarray) -> np.ndarray:
    """Distance of each labelled pixel to the nearest pixel of another class.

    Args:
        labels: uint8 (H, W) in [0, K) or UNLABELLED, which is no class.

    Returns:
        float32 (H, W), in pixels; infinite at pixels without a label, and everywhere where there is but one class.
    """
    distance = np.full(labels.shape, np.inf, np.float32)
    present = [number for number in np.unique(labels).tolist() if number != UNLABELLED]
    if len(present) < 2:
        return distance
    for number in present:
        mine = labels == number
        distance[mine] = distance_to((labels != UNLABELLED) & ~mine)[mine]
    return distance
