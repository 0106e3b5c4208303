"""Other colours and another grain for every surface: domain randomisation on images with exact labels (Tobin et al., 2017).

A network that is trained on rendered rooms learns that floors are brown planks and sofas are red. Real ones have any colour.
Surfaces get a colour, a contrast and a grain of their own here; their shading, outlines and places stay, which is what they have
to be known by.
"""

from __future__ import annotations

import cv2
import numpy as np

from seg_models.losses import IGNORE

SMALLEST = 64  # pixels of a region; smaller ones, such as specks between the slats of a chair, stay as they are
KEPT = 0.25  # probability of a region's staying as it is: glass and screens are known by what they show
ALIKE = 0.5  # probability that all regions of a class get the same paint, as floor seen through a chair's legs has
LIGHTNESS = (20.0, 235.0)  # of the paint
CONTRAST = (0.5, 1.3)  # of shading: of what is left after blurring
GRAIN = (0.0, 1.4)  # of what blurring takes away: 0 is plain paint
BLUR = 7  # side of the box that is blurred over, pixels


def recolour(image: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Give the surfaces of an image other colours.

    Args:
        image: RGB uint8 (H, W, 3).
        labels: uint8 (H, W); where IGNORE, nothing changes.
        generator: that everything is drawn from.

    Returns:
        RGB uint8 (H, W, 3), a new array.
    """
    result = image.copy()
    for label in np.unique(labels):
        if label == IGNORE:
            continue
        _, parts, statistics, _ = cv2.connectedComponentsWithStats((labels == label).view(np.uint8))
        alike = draw_paint(generator) if generator.random() < ALIKE else None
        large = np.flatnonzero(statistics[1:, cv2.CC_STAT_AREA] >= SMALLEST) + 1  # part 0 is the rest of the image
        for part in large:
            if generator.random() < KEPT:
                continue
            left, top, width, height, _ = statistics[part]
            box = np.s_[top : top + height, left : left + width]
            result[box] = painted(image[box], result[box], parts[box] == part, alike or draw_paint(generator))
    return result


Paint = tuple[np.ndarray, float, float]


def draw_paint(generator: np.random.Generator) -> Paint:
    """Mean colour float (3,) in 0..255, contrast of the shading, and of the grain."""
    colour = generator.uniform(*LIGHTNESS, 3)
    # Rooms are mostly grey, white and wooden: the square of a uniform share of the colour is kept.
    colour = colour.mean() + generator.uniform() ** 2 * (colour - colour.mean())
    return colour, generator.uniform(*CONTRAST), generator.uniform(*GRAIN)


def painted(image: np.ndarray, result: np.ndarray, mask: np.ndarray, paint: Paint) -> np.ndarray:
    """The pixels of an image under a mask with a paint, the others as in the result; uint8 (h, w, 3), mask bool (h, w)."""
    colour, contrast, grain = paint
    inside = mask.astype(np.float32)[..., None]
    mean = image[mask].mean(0, dtype=np.float64).astype(np.float32)  # a sum of float32s drifts by grey levels
    differences = (image - mean) * inside
    # The mean over the region alone: what lies beside it would show as a seam along its edge.
    share = cv2.blur(inside, (BLUR, BLUR), borderType=cv2.BORDER_CONSTANT)[..., None]
    shading = cv2.blur(differences, (BLUR, BLUR), borderType=cv2.BORDER_CONSTANT) / np.maximum(share, 1e-6)
    # Light falls on any paint by the same factor, so differences go with the colour; 40 keeps those of black things small.
    gain = ((colour + 40) / (mean + 40)).astype(np.float32)
    new = colour.astype(np.float32) + gain * (np.float32(contrast - grain) * shading + np.float32(grain) * differences)
    return np.where(inside > 0, np.clip(np.rint(new), 0, 255).astype(np.uint8), result)
