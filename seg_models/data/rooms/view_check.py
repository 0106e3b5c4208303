"""Which rendered views are kept: exact labels and enough to see."""

from __future__ import annotations

import cv2
import numpy as np

from seg_models.data.rooms.classes import IGNORE_INDEX, STRUCTURE_IDS

MAX_SPECKLE = 0.003  # of the image; exact outlines of furniture leave less than a third of it
MAX_ONE_CLASS = 0.72
MIN_CONTENT = 0.08  # of the image must be something other than floor, wall and ceiling
MIN_CLASSES = 4
MAX_NEAR = 0.25  # of the image may be nearer than NEAR_M
NEAR_M = 0.45
MAX_UNLABELLED = 0.02
_WINDOW = 7
_BUSY = 0.3  # a random mix of two labels: 0.5 +- 0.08


def speckle_fraction(labels: np.ndarray) -> float:
    """Fraction of the pixels of `labels` (uint8 [H, W]) that lie in a speckled neighbourhood.

    Surfaces that coincide are mixed pixel by pixel: in a 7x7 window about half of the neighbouring pairs differ, along
    rows and along columns alike. Outlines, thin legs and rows of bars differ along one direction only.
    """
    across = np.zeros(labels.shape, np.float32)
    along = np.zeros(labels.shape, np.float32)
    across[:, 1:] = labels[:, 1:] != labels[:, :-1]
    along[1:] = labels[1:] != labels[:-1]
    window = (_WINDOW, _WINDOW)
    busy = np.minimum(cv2.blur(across, window), cv2.blur(along, window))  # (H, W) share of differing pairs
    return float((busy > _BUSY).mean())


def reject_reason(labels: np.ndarray, depth_m: np.ndarray) -> str | None:
    """Why a view is dropped, or None if it is kept.

    Args:
        labels: uint8 [H, W] class ids, 255 = not labelled.
        depth_m: float [H, W], metres along the optical axis.

    Returns:
        "speckled", "unlabelled", "too near", "one class", "empty" or None.
    """
    counts = np.bincount(labels.ravel(), minlength=256) / labels.size
    if speckle_fraction(labels) > MAX_SPECKLE:
        return "speckled"
    if counts[IGNORE_INDEX] > MAX_UNLABELLED:
        return "unlabelled"
    if float((depth_m < NEAR_M).mean()) > MAX_NEAR:
        return "too near"
    if counts[:IGNORE_INDEX].max() > MAX_ONE_CLASS:
        return "one class"
    content = 1.0 - counts[IGNORE_INDEX] - counts[list(STRUCTURE_IDS)].sum()
    if content < MIN_CONTENT or int((counts[:IGNORE_INDEX] > 0.005).sum()) < MIN_CLASSES:
        return "empty"
    return None
