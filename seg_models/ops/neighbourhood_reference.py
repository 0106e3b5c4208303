"""The 3x3 superpixel neighbourhood as loops: eq. 3-7 word for word, slow, for the tests to compare with.

Feature maps are (D, h, w) of one image, superpixel grids (D, R, C). Nothing here is batched, blocked or masked: a
neighbour that does not exist is simply not visited.
"""

from __future__ import annotations

import torch
from torch import Tensor


def superpixels_near(row: int, col: int, rows: int, cols: int) -> list[tuple[int, int]]:
    """The up to nine grid positions of the 3x3 neighbourhood of (row, col), in raster order."""
    return [(r, c) for r in range(row - 1, row + 2) for c in range(col - 1, col + 2) if 0 <= r < rows and 0 <= c < cols]


def superpixel_update(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Eq. 3 without the residual. query (D, R, C); key, value (D, h, w); returns (D, R, C)."""
    channels, rows, cols = query.shape
    cell_h, cell_w = key.shape[1] // rows, key.shape[2] // cols
    width = channels // heads
    out = torch.zeros_like(query)
    for row in range(rows):
        for col in range(cols):
            pixels = [
                (y, x)
                for r, c in superpixels_near(row, col, rows, cols)
                for y in range(r * cell_h, (r + 1) * cell_h)
                for x in range(c * cell_w, (c + 1) * cell_w)
            ]
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                scores = torch.stack([query[part, row, col] @ key[part, y, x] for y, x in pixels]) * width**-0.5
                for weight, (y, x) in zip(scores.softmax(0), pixels, strict=True):
                    out[part, row, col] += weight * value[part, y, x]
    return out


def pixel_update(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Eq. 4 without the residual. query (D, h, w); key, value (D, R, C); returns (D, h, w)."""
    channels, height, width_px = query.shape
    rows, cols = key.shape[1:]
    width = channels // heads
    out = torch.zeros_like(query)
    for y in range(height):
        for x in range(width_px):
            near = superpixels_near(y * rows // height, x * cols // width_px, rows, cols)
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                scores = torch.stack([query[part, y, x] @ key[part, r, c] for r, c in near]) * width**-0.5
                for weight, (r, c) in zip(scores.softmax(0), near, strict=True):
                    out[part, y, x] += weight * value[part, r, c]
    return out


def associate(pixels: Tensor, superpixels: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 5 to 7 at the resolution of the pixel features.

    Args:
        pixels: (D, h, w); superpixels: (D, R, C); values: (K, R, C).

    Returns:
        the painted values (K, h, w) and the owners int64 (h, w).
    """
    channels, height, width_px = pixels.shape
    rows, cols = superpixels.shape[1:]
    painted = pixels.new_zeros(values.shape[0], height, width_px)
    owner = torch.zeros(height, width_px, dtype=torch.long)
    for y in range(height):
        for x in range(width_px):
            near = superpixels_near(y * rows // height, x * cols // width_px, rows, cols)
            scores = torch.stack([pixels[:, y, x] @ superpixels[:, r, c] for r, c in near]) * channels**-0.5
            for weight, (r, c) in zip(scores.softmax(0), near, strict=True):
                painted[:, y, x] += weight * values[:, r, c]
            r, c = near[int(scores.argmax())]
            owner[y, x] = r * cols + c
    return painted, owner
