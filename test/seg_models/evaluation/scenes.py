"""Masks and predictions to measure on: a few blobs, and the same a little wrong."""

from __future__ import annotations

import cv2
import numpy as np

from seg_models.evaluation.measures import UNLABELLED, Sample, Segmented


def blobs(generator: np.random.Generator, size: tuple[int, int] = (40, 56), classes: int = 4) -> np.ndarray:
    """Labels uint8 (H, W) of smooth areas, with an unlabelled corner."""
    fields = generator.normal(0, 1, (classes, 6, 7)).astype(np.float32)
    whole = np.stack([cv2.resize(field, size[::-1], interpolation=cv2.INTER_CUBIC) for field in fields])
    labels = whole.argmax(axis=0).astype(np.uint8)
    labels[:5, -7:] = UNLABELLED
    return labels


def sample(index: int, seed: int, classes: int = 4, grid: tuple[int, int] = (5, 7)) -> Sample:
    """An image of noise over its labels, a prediction of which some pixels are moved and some are wrong, and superpixels."""
    generator = np.random.default_rng(seed)
    labels = blobs(generator, classes=classes)
    height, width = labels.shape
    predicted = np.roll(labels, generator.integers(-2, 3, 2), (0, 1))
    wrong = (generator.random(labels.shape) < 0.05) | (predicted == UNLABELLED)
    predicted[wrong] = generator.integers(0, classes, int(wrong.sum()))
    confidence = generator.integers(0, 256, labels.shape, np.uint8)
    rows = (
        (np.arange(height)[:, None] + generator.integers(-1, 2, labels.shape)).clip(0, height - 1) * grid[0] // height
    )
    columns = (np.arange(width) + generator.integers(-1, 2, labels.shape)).clip(0, width - 1) * grid[1] // width
    superpixels = (rows * grid[1] + columns).astype(np.uint16)
    image = (labels[..., None] * 50 % 251 + generator.integers(0, 5, (*labels.shape, 3))).astype(np.uint8)
    return Sample(index, image, labels, Segmented(predicted.astype(np.uint8), confidence, superpixels, grid))
