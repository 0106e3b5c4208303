"""A contact sheet: some images of each split with their labels over them, and the classes' colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from seg_models.data.check.examine import THUMBNAIL
from seg_models.data.check.summary import DataSummary

COLUMNS = 4
GAP = 8  # pixels
LINE = 20  # pixels, height of a line of text
SWATCH = 14
LEGEND_COLUMN = 200  # pixels
INK, PAPER = (20, 20, 20), (255, 255, 255)  # RGB
FONT, FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
LETTER = 8  # pixels, width of a letter at the most


def write_sheet(path: Path, summary: DataSummary) -> None:
    """Write the sheet, as PNG or JPEG by the path's ending.

    Raises:
        ValueError: another ending.
        OSError: it cannot be written.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"the contact sheet is to be {path}; expected a name ending in .png or .jpg")
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(contact_sheet(summary), cv2.COLOR_RGB2BGR))[1]
    path.write_bytes(encoded.tobytes())


def contact_sheet(summary: DataSummary) -> np.ndarray:
    """RGB uint8 (H, W, 3)."""
    width = COLUMNS * (THUMBNAIL[1] + GAP) + GAP
    parts = [_title(f"{summary.root} ({summary.kind})", width), _legend(summary, width)]
    for split, of in summary.splits.items():
        parts.append(_title(f"{split}: {of.images} images", width))
        for start in range(0, len(of.thumbnails), COLUMNS):
            parts.append(_row(of.thumbnails[start : start + COLUMNS], width))
    return np.concatenate(parts)


def _legend(summary: DataSummary, width: int) -> np.ndarray:
    columns = width // LEGEND_COLUMN
    names = summary.table.names
    part = _paper((len(names) + columns - 1) // columns * LINE + GAP, width)
    for index, (name, colour) in enumerate(zip(names, summary.table.palette, strict=True)):
        row, column = divmod(index, columns)
        y, x = row * LINE + 3, column * LEGEND_COLUMN + GAP
        part[y : y + SWATCH, x : x + SWATCH] = colour
        cv2.rectangle(part, (x, y), (x + SWATCH, y + SWATCH), INK)
        _write(part, f"{index} {name}", x + SWATCH + 6, y + 12, LEGEND_COLUMN - SWATCH - 12)
    return part


def _row(thumbnails: Sequence[tuple[str, np.ndarray]], width: int) -> np.ndarray:
    part = _paper(THUMBNAIL[0] + LINE + GAP, width)
    for column, (name, picture) in enumerate(thumbnails):
        x = GAP + column * (THUMBNAIL[1] + GAP)
        part[: picture.shape[0], x : x + picture.shape[1]] = picture
        _write(part, name, x, THUMBNAIL[0] + 14, THUMBNAIL[1])
    return part


def _title(text: str, width: int) -> np.ndarray:
    part = _paper(LINE + GAP, width)
    _write(part, text, GAP, LINE - 4, width - 2 * GAP)
    return part


def _write(part: np.ndarray, text: str, x: int, y: int, width: int) -> None:
    """Letters that OpenCV's font lacks become question marks; of a text that is too long the end is kept."""
    letters = text.encode("ascii", "replace").decode()
    most = width // LETTER
    shown = letters if len(letters) <= most else f"...{letters[len(letters) - most + 3 :]}"
    cv2.putText(part, shown, (x, y), FONT, FONT_SIZE, INK, 1, cv2.LINE_AA)


def _paper(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), PAPER, np.uint8)
