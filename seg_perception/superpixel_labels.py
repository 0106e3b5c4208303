"""The class of each superpixel: a picture of a few hundred bytes that goes over any link."""

from __future__ import annotations

import numpy as np

from seg_perception.model.model_file import UNLABELLED


def superpixel_labels(class_logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class of each superpixel.

    Args:
        class_logits: float [R, C, K].

    Returns:
        uint8 [R, C], its class, the first of several, 255 where its scores are not finite; uint8 [R, C], the softmax
        probability of that class x 255, rounded.
    """
    finite = np.isfinite(class_logits).all(-1)
    logits = np.where(finite[..., None], class_logits, 0).astype(np.float32)
    labels = logits.argmax(-1).astype(np.uint8)
    highest = logits.max(-1, keepdims=True)
    probability = 1.0 / np.exp(logits - highest).sum(-1)
    confidence = np.rint(255 * probability).astype(np.uint8)
    return np.where(finite, labels, np.uint8(UNLABELLED)), np.where(finite, confidence, np.uint8(0))


def voted_superpixel_labels(superpixels: np.ndarray, labels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The class that most pixels of each superpixel have: for models that give pixels and no scores of superpixels.

    Args:
        superpixels: uint16 [H, W], raster index in the grid; what lies outside does not count.
        labels: uint8 [H, W]; 255, not labelled, votes too.
        grid: (R, C).

    Returns:
        uint8 [R, C]; of equal votes the first class, 255 for a superpixel without pixels.
    """
    count = grid[0] * grid[1]
    pairs = superpixels.reshape(-1).astype(np.int64) * 256 + labels.reshape(-1)
    votes = np.bincount(pairs, minlength=256 * count)[: 256 * count].reshape(count, 256)
    winners = np.where(votes.any(-1), votes.argmax(-1), UNLABELLED)
    return winners.astype(np.uint8).reshape(grid)


def paint_superpixels(superpixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels of an image from its superpixels and their classes, as on the other side of a weak link.

    Args:
        superpixels: uint16 [H, W], raster index in the grid.
        labels: uint8 [R, C].

    Returns:
        uint8 [H, W]. At edges it differs from the node's own labels, which mix the superpixels around a pixel.
    """
    return np.take(labels.reshape(-1), superpixels)
