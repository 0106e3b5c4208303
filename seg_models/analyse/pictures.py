"""Images of a data set side by side with their truth, predictions and errors (all papers' pictures; Superpixel Transformer,
Figure 4, with the outlines of the superpixels)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from seg_models.losses import IGNORE
from seg_models.normalization import normalize
from seg_models.segmentation_model import SegmentationModel

UNLABELLED, RIGHT, WRONG = (0, 0, 0), (70, 120, 70), (40, 40, 220)  # BGR
OUTLINE = (0, 255, 255)
BAR = 4  # white pixels between two pictures


def coloured(labels: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Labels (H, W) in [0, K) or IGNORE in the colours of their classes (RGB): uint8 BGR (H, W, 3)."""
    table = np.zeros((IGNORE + 1, 3), np.uint8)
    table[: len(palette)] = np.array(palette, np.uint8)[:, ::-1]
    table[IGNORE] = UNLABELLED
    return table[labels]


def errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Where a prediction is right, wrong, or there is no label: (H, W) twice -> uint8 BGR (H, W, 3)."""
    picture = np.empty((*truth.shape, 3), np.uint8)
    picture[:] = WRONG
    picture[predicted == truth] = RIGHT
    picture[truth == IGNORE] = UNLABELLED
    return picture


def outlined(image: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """An image RGB (H, W, 3) with the edges between superpixels (H, W) drawn: uint8 BGR."""
    picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    edge = np.zeros(owner.shape, bool)
    edge[:, :-1] |= owner[:, :-1] != owner[:, 1:]
    edge[:-1] |= owner[:-1] != owner[1:]
    picture[edge] = OUTLINE
    return picture


def strip(
    image: np.ndarray, truth: np.ndarray, models: Sequence[SegmentationModel], palette: Sequence[tuple[int, int, int]]
) -> tuple[np.ndarray, float]:
    """One image in a row of pictures.

    Args:
        image: uint8 RGB (H, W, 3) at the models' size.
        truth: uint8 (H, W).
        models: in eval mode, of the same classes.
        palette: RGB of each class.

    Returns:
        uint8 BGR, from left to right: the image (with the first model's superpixels, where it has some), truth, then of each
        model its prediction and where it is wrong; and the first model's share of wrong pixels among the labelled ones.
    """
    rows = [cv2.cvtColor(image, cv2.COLOR_RGB2BGR), coloured(truth, palette)]
    wrong = []
    for number, model in enumerate(models):
        with torch.no_grad():
            decision = model.decide(normalize(torch.from_numpy(image).permute(2, 0, 1)[None], model.normalization))
        labels = decision.labels[0].numpy().astype(np.uint8)
        if number == 0 and decision.superpixels is not None:
            rows[0] = outlined(image, decision.superpixels[0].numpy())
        rows += [coloured(labels, palette), errors(labels, truth)]
        known = truth != IGNORE
        wrong.append(float((labels != truth)[known].mean()) if known.any() else 0.0)
    bar = np.full((image.shape[0], BAR, 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, bar)][:-1], axis=1), wrong[0]
