"""What robots' cameras do to images: motion while the shutter is open, wrong exposure, dirt on the lens; at five severities.

Unlike the corruptions of `corruptions.py`, which are Hendrycks and Dietterich's for photographs of 224 pixels, these are computed
in linear light, as they happen, and measured in shares of the image, so that they mean the same at any resolution.

All take a float32 image (H, W, 3) in 0..1 (sRGB), a severity from 1 to 5 and a generator.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

BLUR_LENGTH = (0.01, 0.02, 0.03, 0.045, 0.065)  # of the image's width
UNDER_STOPS = (-1.0, -2.0, -3.0, -4.0, -5.0)
OVER_STOPS = (0.75, 1.5, 2.25, 3.0, 4.0)
FULL_WELL = 8000.0  # electrons of white: a small pixel
READ_NOISE = 4.0  # electrons
SPOTS = (8, 14, 22, 32, 45)
SPOT_RADIUS = (0.015, 0.06)  # of the diagonal
SPOT_OPACITY = (0.5, 0.95)
MUD = (0.05, 0.04, 0.03)  # linear light of what sticks to the lens


def to_linear(x: np.ndarray) -> np.ndarray:
    """sRGB in 0..1 -> linear light."""
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def from_linear(x: np.ndarray) -> np.ndarray:
    """Linear light -> sRGB in 0..1; what is brighter than white is white."""
    x = x.clip(0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def camera_motion(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A camera that turns at an even pace while the shutter is open, in any direction."""
    length = BLUR_LENGTH[severity - 1] * x.shape[1]
    angle = generator.uniform(0, np.pi)
    reach = math.ceil(length / 2) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for step in np.linspace(-length / 2, length / 2, max(3, 4 * math.ceil(length))):
        row, column = reach + step * math.sin(angle), reach + step * math.cos(angle)
        top, left = int(row), int(column)
        for r, c in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
            kernel[r, c] += (1 - abs(row - r)) * (1 - abs(column - c))
    linear = to_linear(x).astype(np.float32)
    return from_linear(cv2.filter2D(linear, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE))


def exposed(x: np.ndarray, stops: float, generator: np.random.Generator) -> np.ndarray:
    """An image as a sensor gives it with this much more light, with the noise of photons and of reading."""
    electrons = to_linear(x) * 2.0**stops * FULL_WELL  # what is beyond a full well is cut off behind the noise
    noise = generator.normal(0, 1, x.shape) * np.sqrt(electrons + READ_NOISE**2)
    return from_linear((electrons + noise) / FULL_WELL)


def underexposure(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Too little light: dark, and what is left of it lies in noise."""
    return exposed(x, UNDER_STOPS[severity - 1], generator)


def overexposure(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Too much light: what is bright becomes white."""
    return exposed(x, OVER_STOPS[severity - 1], generator)


def lens_dirt(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Spots of dust and mud on the lens: far out of focus, so dark and soft."""
    height, width = x.shape[:2]
    diagonal = math.hypot(height, width)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    clear = np.ones((height, width), np.float32)
    for _ in range(SPOTS[severity - 1]):
        row, column = generator.uniform(0, height), generator.uniform(0, width)
        radius = generator.uniform(*SPOT_RADIUS) * diagonal
        opacity = generator.uniform(*SPOT_OPACITY)
        # Opaque inside, and over as much again the share of the aperture that is covered falls.
        distance = np.hypot(rows - row, columns - column) / max(radius, 1.0)
        clear *= 1 - opacity * (1.5 - distance).clip(0, 1)
    linear = to_linear(x) * clear[..., None] + np.array(MUD) * (1 - clear[..., None])
    return from_linear(linear)
