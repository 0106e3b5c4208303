"""Class ids as people and other programs read them: colours, overlays, superpixel outlines, label tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml

from seg_perception.model.model_file import UNLABELLED, ModelInfo

UNLABELLED_COLOUR = (0, 0, 0)


class LabelSetError(ValueError):
    """A label set file is missing or does not describe classes 0..K-1. The message is one line."""


@dataclass(frozen=True)
class LabelSet:
    """Names and colours of classes 0..K-1.

    Attributes:
        class_names: K names.
        palette: uint8 [K, 3], RGB.
        ignore_index: the id of pixels without a label.
    """

    class_names: tuple[str, ...]
    palette: np.ndarray
    ignore_index: int = UNLABELLED


def load_label_set(path: str | Path) -> LabelSet:
    """Read `classes: [{id, name, color: [r, g, b]}, ...]` with an optional `ignore_index`, as in config/labels/.

    Raises:
        LabelSetError: no such file, no YAML, ids that are not 0..K-1, or a colour outside 0..255.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        classes = sorted(content["classes"], key=lambda entry: int(entry["id"]))
        names = tuple(str(entry["name"]) for entry in classes)
        ids = [int(entry["id"]) for entry in classes]
        palette = np.array([entry["color"] for entry in classes], np.int64)
        ignore_index = int(content.get("ignore_index", UNLABELLED))
    except OSError as error:
        raise LabelSetError(f"label set {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise LabelSetError(
            f"label set {path} is not of the form `classes: [{{id, name, color: [r, g, b]}}, ...]`: "
            f"{' '.join(str(error).split())}"
        ) from error
    if not ids or ids != list(range(len(ids))):
        raise LabelSetError(f"label set {path} has the ids {ids}; expected 0, 1, 2 ... without gaps")
    if palette.shape != (len(ids), 3) or palette.min() < 0 or palette.max() > 255:
        raise LabelSetError(f"label set {path} has a colour that is not three values of 0..255")
    return LabelSet(names, palette.astype(np.uint8), ignore_index)


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


def label_info_json(info: ModelInfo) -> str:
    """The content of a vision_msgs/LabelInfo as JSON, for systems without vision_msgs; with the colours added."""
    class_map = [
        {"class_id": index, "class_name": name, "color": colour}
        for index, (name, colour) in enumerate(zip(info.class_names, info.palette.tolist(), strict=True))
    ]
    return json.dumps({"class_map": class_map, "threshold": 0.0, "unlabelled_id": UNLABELLED, "model": info.name})
