"""Pictures of labels: in their classes' colours, where they are wrong, and the outlines of superpixels."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np

from seg_models.losses import IGNORE

UNLABELLED_COLOUR, RIGHT, WRONG = (0, 0, 0), (70, 120, 70), (40, 40, 220)  # BGR
OUTLINE = (0, 255, 255)
JPEG_QUALITY = 85


def coloured(labels: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Labels (H, W) in [0, K) or IGNORE in the colours of their classes (RGB): uint8 BGR (H, W, 3)."""
    table = np.zeros((IGNORE + 1, 3), np.uint8)
    table[: len(palette)] = np.array(palette, np.uint8)[:, ::-1]
    table[IGNORE] = UNLABELLED_COLOUR
    return table[labels]


def errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Where a prediction is right, wrong, or there is no label: (H, W) twice -> uint8 BGR (H, W, 3)."""
    picture = np.empty((*truth.shape, 3), np.uint8)
    picture[:] = WRONG
    picture[predicted == truth] = RIGHT
    picture[truth == IGNORE] = UNLABELLED_COLOUR
    return picture


def outlined(image: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """An image RGB (H, W, 3) with the edges between superpixels (H, W) drawn: uint8 BGR."""
    picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    edge = np.zeros(owner.shape, bool)
    edge[:, :-1] |= owner[:, :-1] != owner[:, 1:]
    edge[:-1] |= owner[:-1] != owner[1:]
    picture[edge] = OUTLINE
    return picture


def jpeg_link(picture: np.ndarray, width: int) -> str:
    """A BGR picture (H, W, 3), at most so wide, as a link that holds it."""
    if picture.shape[1] > width:
        size = (width, max(1, round(picture.shape[0] * width / picture.shape[1])))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
