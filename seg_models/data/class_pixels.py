"""How much of a data set each class fills, and what follows: weights for a loss, and images drawn for their rare classes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from seg_models.losses import IGNORE

WEIGHTINGS = ("none", "median_frequency", "inverse_log")
SAMPLINGS = ("shuffled", "balanced")


class Labelled(Protocol):
    """What has labels to count."""

    def __len__(self) -> int: ...

    def read_labels(self, index: int) -> np.ndarray:
        """uint8 (H, W), IGNORE where not labelled."""
        ...


def class_pixels(data: Labelled, num_classes: int, threads: int = 4) -> np.ndarray:
    """Pixels of each class in each image, int64 (N, K); decoding runs in threads.

    Raises:
        FolderDataError: a mask that cannot be read.
    """

    def count(index: int) -> np.ndarray:
        return np.bincount(data.read_labels(index).ravel(), minlength=IGNORE + 1)[:num_classes]

    def rows() -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(max(threads, 1)) as pool:
            yield from pool.map(count, range(len(data)))

    return np.stack(list(rows())) if len(data) else np.zeros((0, num_classes), np.int64)


def class_weights(pixels: np.ndarray, weighting: str) -> np.ndarray:
    """Weights of the classes in a loss, float32 (K,), with a mean of 1 over the labelled pixels; 0 for a class without any.

    Args:
        pixels: int64 (N, K).
        weighting: "median_frequency", the median of all classes' shares over a class's own, counted on the images that show it
            (SegNet, 3; after Eigen and Fergus, 2015), or "inverse_log", 1 / ln(1.02 + share) (ENet, 5.3), which is milder.

    Raises:
        ValueError: another weighting.
    """
    total, shown = pixels.sum(0).astype(np.float64), pixels > 0
    weights = np.zeros(pixels.shape[1])
    if weighting == "median_frequency":
        around = (shown * pixels.sum(1, keepdims=True)).sum(0)  # pixels of the images that show the class
        share = total / np.maximum(around, 1)
        weights[total > 0] = np.median(share[total > 0]) / share[total > 0]
    elif weighting == "inverse_log":
        weights = np.where(total > 0, 1 / np.log(1.02 + total / max(total.sum(), 1)), 0)
    else:
        raise ValueError(f"weighting is {weighting!r}; expected one of {', '.join(WEIGHTINGS[1:])}")
    mean = (weights * total).sum() / max(total.sum(), 1)
    return (weights / max(mean, 1e-12)).astype(np.float32)


def balanced_draw(pixels: np.ndarray, temperature: float) -> np.ndarray:
    """Probability of each image, float64 (N,), by rare class sampling (DAFormer, eq. 7-8): a class is drawn with
    softmax((1 - its share) / temperature), then any of the images that show it.

    Args:
        pixels: int64 (N, K).
        temperature: above 0; the lower, the more often rare classes are drawn.
    """
    total, shown = pixels.sum(0), pixels > 0
    score = (1 - total / max(total.sum(), 1)) / temperature
    score = np.where(total > 0, score, -np.inf)
    if not (total > 0).any():
        return np.full(len(pixels), 1 / max(len(pixels), 1))
    chance = np.exp(score - score.max())
    chance /= chance.sum()
    return (shown * (chance / np.maximum(shown.sum(0), 1))).sum(1)
