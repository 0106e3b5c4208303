"""AutoAugment (Cubuk et al., 2019), the policy found on ImageNet, without what moves pixels: the colours alone."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image
from timm.data.auto_augment import AugmentOp, auto_augment_policy

# Rotations and shears would move pixels away from their labels. What stays of a sub-policy is still drawn with its own chance.
MOVING = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")


def colour_policy() -> list[list[AugmentOp]]:
    """timm's sub-policies of AutoAugment's Table 9, each with the one or two operations of it that change colours."""
    return [
        [operation for operation in pair if operation.name not in MOVING]
        for pair in auto_augment_policy("original", {"img_mean": (128, 128, 128)})
    ]


def auto_augment(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Change an image's colours by a sub-policy drawn from all.

    Args:
        image: uint8 RGB (H, W, 3).
        generator: all chance comes from it.

    Returns:
        uint8 (H, W, 3).
    """
    # timm draws from Python's own generator: it starts from ours here, and goes on afterwards as if nothing had been.
    before = random.getstate()
    random.seed(int(generator.integers(2**63)))
    try:
        picture = Image.fromarray(image)
        for operation in random.choice(POLICY):
            picture = operation(picture)
    finally:
        random.setstate(before)
    return np.asarray(picture)


POLICY = colour_policy()
