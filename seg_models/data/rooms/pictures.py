"""Pictures drawn from a seed: what is seen through a window, and what a switched-on screen shows. numpy and OpenCV alone."""

from __future__ import annotations

import cv2
import numpy as np


def outlook(rng: np.random.Generator, height: int = 192, width: int = 256) -> np.ndarray:
    """A view from a window, blurred as by distance: sky with clouds, hills or houses, trees, sometimes blinds.

    Returns:
        uint8 RGB [height, width, 3], the top row first.
    """
    horizon = int(height * rng.uniform(0.35, 0.75))
    top, low = _colour(rng, (190, 225), (0.1, 0.7), (0.6, 1.0)), _colour(rng, (190, 230), (0.0, 0.25), (0.8, 1.0))
    fade = np.linspace(0, 1, height)[:, None, None]
    picture = (1 - fade) * top + fade * low  # (H, 1, 3)
    picture = np.repeat(picture, width, axis=1)
    clouds = cv2.resize(rng.random((6, 8)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    picture += np.clip(clouds - 0.5, 0, 1)[..., None] * rng.uniform(0, 1.2) * (1 - picture)
    picture[horizon:] = _colour(rng, (60, 130), (0.1, 0.6), (0.2, 0.6))
    for _ in range(int(rng.integers(0, 6))):
        _house(picture, rng, horizon)
    for _ in range(int(rng.integers(0, 9))):
        centre = (int(rng.integers(width)), int(horizon + rng.uniform(-0.1, 0.35) * height))
        radius = int(rng.uniform(0.04, 0.2) * height)
        cv2.circle(picture, centre, radius, _colour(rng, (70, 140), (0.3, 0.8), (0.15, 0.5)).tolist(), -1)
    leaves = cv2.resize(rng.normal(0, 0.06, (height // 3, width // 3)).astype(np.float32), (width, height))
    picture[horizon - height // 8 :] += leaves[horizon - height // 8 :, :, None]
    picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.6, 2.5)))
    if rng.random() < 0.2:  # blinds, shut by a part
        pitch = int(rng.integers(6, 14))
        slats = np.arange(height) % pitch < pitch * rng.uniform(0.3, 0.8)
        picture[slats & (np.arange(height) < height * rng.uniform(0.3, 1.0))] = rng.uniform(0.5, 0.95)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def screen_content(rng: np.random.Generator, height: int = 144, width: int = 256) -> np.ndarray:
    """What a screen shows: windows with lines of text on a desktop, a picture, or one colour. uint8 RGB as `outlook`."""
    kind = rng.random()
    if kind < 0.25:
        return outlook(rng, height, width)
    picture = np.empty((height, width, 3))
    picture[:] = _colour(rng, (0, 360), (0.0, 0.8), (0.02, 0.9))
    if kind > 0.85:
        return np.round(picture * 255).astype(np.uint8)
    for _ in range(int(rng.integers(1, 5))):
        x, y = int(rng.integers(0, width - 60)), int(rng.integers(0, height - 40))
        right, low = int(rng.integers(x + 50, width + 1)), int(rng.integers(y + 30, height + 1))
        is_dark = rng.random() < 0.4
        picture[y:low, x:right] = rng.uniform(0.05, 0.2) if is_dark else rng.uniform(0.85, 1.0)
        picture[y : y + 5, x:right] = _colour(rng, (0, 360), (0.0, 0.8), (0.3, 0.9))
        for line in range(y + 9, low - 4, 5):
            end = int(rng.integers(x + 8, right))
            picture[line : line + 2, x + 5 : end] = _colour(
                rng, (0, 360), (0.0, 0.5), (0.6, 0.9) if is_dark else (0.1, 0.4)
            )
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _house(picture: np.ndarray, rng: np.random.Generator, horizon: int) -> None:
    height, width = picture.shape[:2]
    w, h = int(rng.uniform(0.1, 0.4) * width), int(rng.uniform(0.1, 0.6) * height)
    x, y = int(rng.integers(-w // 2, width - w // 2)), max(0, horizon - h)
    left, right = max(0, x), min(width, x + w)
    picture[y : horizon + height // 6, left:right] = _colour(rng, (0, 60), (0.0, 0.5), (0.3, 0.9))
    step = int(rng.integers(7, 16))
    glass = _colour(rng, (200, 230), (0.0, 0.4), (0.1, 0.6))
    for row in range(y + step // 2, horizon + height // 6 - step // 2, step):
        for column in range(left + step // 2, right - step // 2, step):
            picture[row : row + step // 2, column : column + step // 2] = glass


def _colour(
    rng: np.random.Generator,
    hue_degrees: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> np.ndarray:
    """RGB float [3] in 0..1."""
    hsv = np.array([[[rng.uniform(*hue_degrees) % 360, rng.uniform(*saturation), rng.uniform(*value)]]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(float)
