"""Pictures of a frame and its segmentation, as reports and videos show them: uint8 [H, W, 3], RGB."""

from __future__ import annotations

import cv2
import numpy as np

from seg_perception.labels import superpixel_boundaries
from seg_perception.model.model_file import UNLABELLED

LIGHT_BOUNDARY = (255, 232, 70)  # on dark pixels
DARK_BOUNDARY = (20, 24, 70)  # on light ones
WRONG_COLOUR = (230, 40, 60)


def superpixel_panel(rgb: np.ndarray, superpixels: np.ndarray, labels_rgb: np.ndarray | None = None) -> np.ndarray:
    """The camera image with the outlines of the superpixels.

    Args:
        rgb: uint8 [H, W, 3].
        superpixels: uint16 [H, W].
        labels_rgb: uint8 [H, W, 3], class colours to tint the image with; None for none.
    """
    panel = rgb.copy() if labels_rgb is None else cv2.addWeighted(rgb, 0.7, labels_rgb, 0.3, 0.0)
    boundaries = superpixel_boundaries(superpixels)
    is_light = cv2.cvtColor(panel, cv2.COLOR_RGB2GRAY) > 130
    panel[boundaries & is_light] = DARK_BOUNDARY
    panel[boundaries & ~is_light] = LIGHT_BOUNDARY
    return panel


def error_panel(rgb: np.ndarray, predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The camera image in grey, wrong pixels red, pixels without a true label dark.

    Args:
        rgb: uint8 [H, W, 3].
        predicted, labels: uint8 [H, W].
    """
    grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    panel = cv2.addWeighted(grey, 0.6, np.full_like(grey, 255), 0.25, 0.0)
    unlabelled = labels == UNLABELLED
    wrong = (predicted != labels) & ~unlabelled
    panel[unlabelled] //= 3
    panel[wrong] = (0.35 * panel[wrong] + 0.65 * np.array(WRONG_COLOUR)).astype(np.uint8)
    return panel


def fitted(picture: np.ndarray, size: tuple[int, int], interpolation: int = cv2.INTER_AREA) -> np.ndarray:
    """The picture within `size` (width, height), its proportions kept, black where it does not reach."""
    width, height = size
    scale = min(width / picture.shape[1], height / picture.shape[0])
    inner = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    resized = (
        picture
        if inner == (picture.shape[1], picture.shape[0])
        else cv2.resize(picture, inner, interpolation=interpolation)
    )
    if inner == size:
        return resized
    panel = np.zeros((height, width, *picture.shape[2:]), picture.dtype)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    panel[top : top + inner[1], left : left + inner[0]] = resized
    return panel
