"""Images of a data set side by side with their truth, predictions and errors (all papers' pictures; Superpixel Transformer,
Figure 4, with the outlines of the superpixels)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from seg_models.evaluation.panels import coloured, errors, outlined
from seg_models.losses import IGNORE
from seg_models.normalization import normalize
from seg_models.segmentation_model import SegmentationModel

BAR = 4  # white pixels between two pictures


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
