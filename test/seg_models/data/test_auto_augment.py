"""AutoAugment's changes of colours."""

from __future__ import annotations

import random

import numpy as np
import pytest

from seg_models.data.auto_augment import MOVING, POLICY, auto_augment
from seg_models.data.transforms import RandomScaleCropFlip


def corner(seed: int = 0) -> np.ndarray:
    """A dark image with noise, and a bright square whose edges must stay where they are."""
    image = np.random.default_rng(seed).integers(20, 60, (48, 64, 3), dtype=np.uint8)
    image[8:24, 16:40] += 150
    return image


def test_the_policy_is_imagenets_without_what_moves_pixels():
    assert len(POLICY) == 25
    names = [operation.name for pair in POLICY for operation in pair]
    assert not set(names) & set(MOVING)
    assert {"PosterizeOriginal", "Solarize", "AutoContrast", "Equalize", "Color", "Contrast", "Sharpness"} <= set(names)
    # Of its 50 operations six are rotations and one is a shear.
    assert len(names) == 50 - sum(len(pair) < 2 for pair in POLICY) == 43


def test_colours_change_and_nothing_moves():
    image = corner()
    inside = np.zeros(image.shape[:2], bool)
    inside[8:24, 16:40] = True
    changed = 0
    for seed in range(40):
        made = auto_augment(image, np.random.default_rng(seed))
        assert (made.shape, made.dtype) == (image.shape, np.uint8)
        changed += not np.array_equal(made, image)
        # Each operation maps values, monotonic or not, so that the square's mean differs from its surroundings' where it lies.
        grey = made.astype(float).mean(-1)
        rows = np.abs(grey[:, 16:40].mean(1) - grey[:, :16].mean(1))
        assert rows[8:24].min() > rows[[0, 1, 2, 40, 41, 42]].max()
    assert changed > 25


def test_chance_comes_from_the_generator_alone_and_leaves_pythons_as_it_was():
    random.seed(1)
    first = auto_augment(corner(), np.random.default_rng(3))
    after = random.random()
    random.seed(2)
    assert np.array_equal(auto_augment(corner(), np.random.default_rng(3)), first)
    random.seed(1)
    assert random.random() == after


def test_a_crop_takes_one_change_of_colours():
    labels = np.zeros((48, 64), np.uint8)
    plain = RandomScaleCropFlip((48, 64), (1.0, 1.0), auto_augment=True)
    made, _ = plain(corner(), labels, np.random.default_rng(4))
    assert made.dtype == np.uint8
    assert not np.array_equal(made, corner())
    with pytest.raises(ValueError, match="expected one change of colours"):
        RandomScaleCropFlip((48, 64), photometric_distortion=True, auto_augment=True)
