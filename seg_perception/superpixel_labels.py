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


def paint_superpixels(superpixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels of an image from its superpixels and their classes, as on the other side of a weak link.

    Args:
        superpixels: uint16 [H, W], raster index in the grid.
        labels: uint8 [R, C].

    Returns:
        uint8 [H, W]. At edges it differs from the node's own labels, which mix the superpixels around a pixel.
    """
    return np.take(labels.reshape(-1), superpixels)
