"""Heat maps over an image, curves and named points, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

INK, PAPER = (40, 40, 40), 255
COLOURS = ((60, 60, 220), (200, 120, 40), (60, 160, 60), (160, 60, 160))  # BGR


def unit_range(values: np.ndarray) -> np.ndarray:
    """Any finite values -> 0..1 of the same shape; an even map gives zeros."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def heat_over(image: np.ndarray, values: np.ndarray, blur: float = 0.0) -> np.ndarray:
    """A map over an image.

    Args:
        image: uint8 RGB (H, W, 3).
        values: float (h, w), resized bilinearly to the image and spread to 0..1.
        blur: deviation of a Gaussian in pixels of the image, 0 for none.

    Returns:
        uint8 BGR (H, W, 3): half of the image, half of the map from blue to red.
    """
    size = (image.shape[1], image.shape[0])
    full = cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    if blur > 0:
        full = cv2.GaussianBlur(full, (0, 0), blur)
    colours = cv2.applyColorMap((unit_range(full) * 255).astype(np.uint8), cv2.COLORMAP_JET)
    return cv2.addWeighted(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), 0.5, colours, 0.5, 0)


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a BGR or grey picture.

    Raises:
        OSError: it cannot be written there.
    """
    whole, data = cv2.imencode(".png", picture)
    assert whole
    path.write_bytes(data.tobytes())


def named_points(points: np.ndarray, names: Sequence[str], side: int = 1000) -> np.ndarray:
    """Points (K, 2) of any range with their names, on a white square of `side` pixels: uint8 (side, side, 3)."""
    picture = np.full((side, side, 3), PAPER, np.uint8)
    margin = side // 12
    spread = np.stack([unit_range(points[:, axis]) for axis in (0, 1)], axis=1)
    for (x, y), name in zip(spread, names, strict=True):
        place = (int(margin + x * (side - 3 * margin)), int(margin + (1 - y) * (side - 2 * margin)))
        cv2.circle(picture, place, 4, COLOURS[0], -1, cv2.LINE_AA)
        cv2.putText(picture, name, (place[0] + 6, place[1] + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)
    return picture


def curves(
    x: np.ndarray, lines: Mapping[str, np.ndarray], title: str, size: tuple[int, int] = (600, 900)
) -> np.ndarray:
    """Curves over common values x (n,), each (n,) and at least 0: uint8 (*size, 3)."""
    height, width = size
    picture = np.full((height, width, 3), PAPER, np.uint8)
    left, top, right, bottom = 60, 40, width - 20, height - 40
    highest = max((float(y.max()) for y in lines.values()), default=0.0) or 1.0
    cv2.rectangle(picture, (left, top), (right, bottom), INK, 1)
    cv2.putText(picture, title, (left, top - 12), cv2.FONT_HERSHEY_SIMPLEX, 0.6, INK, 1, cv2.LINE_AA)
    for place, text in ((left, f"{x[0]:.2f}"), (right - 40, f"{x[-1]:.2f}")):
        cv2.putText(picture, text, (place, bottom + 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)
    for number, (name, y) in enumerate(lines.items()):
        columns = left + (x - x[0]) / (x[-1] - x[0]) * (right - left)
        rows = bottom - y / highest * (bottom - top)
        colour = COLOURS[number % len(COLOURS)]
        cv2.polylines(picture, [np.stack([columns, rows], 1).astype(np.int32)], False, colour, 2, cv2.LINE_AA)
        cv2.putText(
            picture, name, (right - 200, top + 24 * (number + 1)), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 1, cv2.LINE_AA
        )
    return picture


def dots(
    points: Sequence[tuple[str, float, float]], across: str, upwards: str, size: tuple[int, int] = (600, 900)
) -> np.ndarray:
    """Named points over an axis from 0 on; upwards from a little below the lowest to a little above the highest.

    Args:
        points: name, x at least 0, y of each; one or more.
        across, upwards: what the axes show, with the unit.
        size: height and width.

    Returns:
        uint8 (*size, 3).
    """
    height, width = size
    picture = np.full((height, width, 3), PAPER, np.uint8)
    left, top, right, bottom = 60, 40, width - 20, height - 60
    furthest = 1.25 * max(x for _, x, _ in points) or 1.0  # room for the last one's name
    lowest, highest = min(y for *_, y in points), max(y for *_, y in points)
    margin = 0.15 * (highest - lowest) or 1.0
    low, high = lowest - margin, highest + margin

    def write(text: str, place: tuple[int, int], colour: tuple[int, int, int] = INK) -> None:
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)

    cv2.rectangle(picture, (left, top), (right, bottom), INK, 1)
    write(upwards, (left, top - 12))
    write(across, (left, bottom + 44))
    for share in np.linspace(0, 1, 5):
        column, row = round(left + share * (right - left)), round(bottom - share * (bottom - top))
        write(f"{share * furthest:.3g}", (column - 12, bottom + 20))
        write(f"{low + share * (high - low):.1f}", (8, row + 4))
    for number, (name, x, y) in enumerate(points):
        colour = COLOURS[number % len(COLOURS)]
        place = (
            round(left + x / furthest * (right - left)),
            round(bottom - (y - low) / (high - low) * (bottom - top)),
        )
        cv2.circle(picture, place, 5, colour, -1, cv2.LINE_AA)
        write(name, (place[0] + 8, place[1] + 5), colour)
    return picture
