"""Class ids as people and other programs read them: colours, overlays, superpixel outlines, label info."""

from __future__ import annotations

import json
from collections.abc import Sequence

import cv2
import numpy as np

from seg_perception.model.model_file import UNLABELLED

UNLABELLED_COLOUR = (0, 0, 0)


def colours(labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Class ids as colours.

    Args:
        labels: uint8 [H, W].
        palette: uint8 [K, 3], RGB.

    Returns:
        uint8 [H, W, 3], RGB. 255 (not labelled) and ids beyond the palette are black.
    """
    table = np.full((256, 1, 3), UNLABELLED_COLOUR, np.uint8)
    table[: len(palette), 0] = palette
    return cv2.applyColorMap(labels, table)


def overlay(rgb: np.ndarray, labels: np.ndarray, palette: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """The camera image tinted with the class colours.

    Args:
        rgb: uint8 [H, W, 3].
        labels: uint8 [H, W]; pixels with 255 (not labelled) stay as the camera saw them.
        palette: uint8 [K, 3], RGB.
        alpha: weight of the colours, 0..1.

    Returns:
        uint8 [H, W, 3], RGB.
    """
    blended = cv2.addWeighted(rgb, 1.0 - alpha, colours(labels, palette), alpha, 0.0)
    unlabelled = cv2.inRange(labels, UNLABELLED, UNLABELLED)
    if cv2.countNonZero(unlabelled):
        cv2.copyTo(rgb, unlabelled, blended)
    return blended


def superpixel_boundaries(superpixels: np.ndarray) -> np.ndarray:
    """Where one superpixel ends and the next begins.

    Args:
        superpixels: unsigned [H, W], one id a pixel.

    Returns:
        bool [H, W], true on the pixels whose right or lower neighbour belongs to another superpixel: lines of one
        pixel's width.
    """
    boundaries = np.zeros(superpixels.shape, bool)
    np.not_equal(superpixels[:, 1:], superpixels[:, :-1], out=boundaries[:, :-1])
    boundaries[:-1] |= superpixels[1:] != superpixels[:-1]
    return boundaries


def label_info_json(model: str, names: Sequence[str], palette: np.ndarray) -> str:
    """The content of a vision_msgs/LabelInfo as JSON, for systems without vision_msgs; with the colours added.

    Args:
        model: its name.
        names: of the classes, in the order of their ids.
        palette: uint8 [K, 3], RGB.
    """
    class_map = [
        {"class_id": index, "class_name": name, "color": colour}
        for index, (name, colour) in enumerate(zip(names, palette.tolist(), strict=True))
    ]
    return json.dumps({"class_map": class_map, "threshold": 0.0, "unlabelled_id": UNLABELLED, "model": model})
