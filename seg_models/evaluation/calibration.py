"""Whether confidence is what it says: expected calibration error and reliability diagram (Guo et al., 2017).

Of all pixels with a confidence of 0.8, eight of ten should be right. Looked at is the confidence that the robot publishes, a byte
a pixel, so that checkpoint, file and engine give the same figures; rounding to it moves an error by at most 0.002.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from typing_extensions import Self

from seg_models.evaluation.measures import UNLABELLED, Measure, Sample, shown

LEVELS = 256
BINS = 15  # as in the paper


class Calibration(Measure):
    """Right and wrong pixels by confidence.

    Args:
        bins: of equal width over 0..1; each holds its upper edge, the first 0, too.

    Attributes:
        counts: int64 (256, 2), pixels of each level of confidence that are wrong, and that are right.
    """

    name = "calibration"

    def __init__(self, bins: int = BINS) -> None:
        self.bins = bins
        self.counts = np.zeros((LEVELS, 2), np.int64)

    def add(self, sample: Sample) -> None:
        known = sample.labels != UNLABELLED
        right = (sample.predicted.labels == sample.labels)[known]
        pairs = sample.predicted.confidence[known].astype(np.int64) * 2 + right
        self.counts += np.bincount(pairs, minlength=2 * LEVELS).reshape(LEVELS, 2)

    def merge(self, other: Self) -> None:
        self.counts += other.counts

    def figures(self) -> dict[str, Any]:
        return calibration_figures(self.counts, self.bins)

    def lines(self) -> list[str]:
        figures = self.figures()
        return [
            f"calibration: ECE {shown(figures['ece'])}, mean confidence {shown(figures['mean_confidence'])}, "
            f"accuracy {shown(figures['accuracy'])}"
        ]


def calibration_figures(counts: np.ndarray, bins: int = BINS) -> dict[str, Any]:
    """ECE, largest error of a bin (MCE) and the bins of the diagram, of counts (256, 2) as in `Calibration`."""
    pixels = counts.sum(axis=1)
    total = int(pixels.sum())
    level = np.arange(LEVELS)
    place = np.maximum(-(-level * bins // (LEVELS - 1)) - 1, 0)  # ceil in whole numbers, so that no edge is missed
    found = []
    gaps: list[tuple[int, float]] = []
    for number in range(bins):
        chosen = place == number
        count = int(pixels[chosen].sum())
        confidence = accuracy = None
        if count:
            confidence = float((pixels * level)[chosen].sum() / count / (LEVELS - 1))
            accuracy = float(counts[chosen, 1].sum() / count)
            gaps.append((count, abs(confidence - accuracy)))
        edges = {"low": number / bins, "high": (number + 1) / bins}
        found.append({**edges, "pixels": count, "confidence": confidence, "accuracy": accuracy})
    return {
        "ece": sum(count * gap for count, gap in gaps) / total if total else None,
        "mce": max((gap for _, gap in gaps), default=None),
        "mean_confidence": float((pixels * level).sum() / total / (LEVELS - 1)) if total else None,
        "accuracy": float(counts[:, 1].sum() / total) if total else None,
        "bins": found,
    }
