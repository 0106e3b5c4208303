"""How the superpixel grid lies over the network's input, and the pixels of an output over the grid. numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

UNROLLED_COLUMNS = 4  # of features, that the loops are written for; cells of fewer have columns without weight beside theirs
LANES = 16  # pixels that are painted together: one register of AVX-512, two of AVX2, four of NEON


@dataclass(frozen=True)
class PaintingGeometry:
    """How the superpixel grid lies over the network's input.

    Attributes:
        input_size: (H, W), pixels of the network's input.
        grid: (R, C), cells. They cover the input from its upper left corner; what hangs over is padding.
        cell: (h, w), pixels of the network's input in a cell.
        feature_cell: (h, w), pixel features in a cell, P = h * w.
    """

    input_size: tuple[int, int]
    grid: tuple[int, int]
    cell: tuple[int, int]
    feature_cell: tuple[int, int]


@dataclass(frozen=True)
class Axis:
    """How the pixels along one axis of the output lie in the cells.

    Attributes:
        start: int32 (cells + 1,), where each cell's pixels begin and end.
        lower, upper: int32 (N,), features of the pixel's cell on its two sides; the same at the cell's edge.
        weight: float32 (N,), share of `upper`.
    """

    start: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    weight: np.ndarray

    @property
    def pixels(self) -> int:
        return len(self.weight)


@dataclass(frozen=True)
class Tiles:
    """An axis cut into tiles of LANES pixels, each inside one cell.

    Attributes:
        start: int32 (cells + 1,), where each cell's tiles begin and end.
        weights: float32 (T * max(features, UNROLLED_COLUMNS) * LANES,), of each of the cell's features at a tile's pixels;
            behind the cell's end those of its last pixel.
    """

    start: np.ndarray
    weights: np.ndarray


@lru_cache(maxsize=32)
def axis(pixels: int, input_side: int, cell: int, features: int, cells: int) -> Axis:
    """The pixels of one axis: bilinear inside each cell, beyond the centres of its outermost features those alone.

    Args:
        pixels: of the output along the axis.
        input_side: of the network's input along it, in pixels.
        cell: pixels of the network's input in a cell.
        features: in a cell along the axis.
        cells: of the grid along the axis.
    """
    # In units of 1 / (2 pixels) of a network pixel everything is whole, so that no rounding moves a pixel over a cell's edge.
    position = (2 * np.arange(pixels, dtype=np.int64) + 1) * input_side
    index, inside = np.divmod(position, 2 * pixels * cell)
    feature = np.clip(inside * features / (2 * pixels * cell) - 0.5, 0, features - 1)
    lower = feature.astype(np.int32)
    return Axis(
        np.searchsorted(index, np.arange(cells + 1)).astype(np.int32),
        lower,
        np.minimum(lower + 1, features - 1).astype(np.int32),
        (feature - lower).astype(np.float32),
    )


@lru_cache(maxsize=32)
def tiles(pixels: int, input_side: int, cell: int, features: int, cells: int) -> Tiles:
    """The tiles of `axis` with the same arguments."""
    along = axis(pixels, input_side, cell, features, cells)
    counts = -(-np.diff(along.start) // LANES)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    weights = np.zeros((start[-1], max(features, UNROLLED_COLUMNS), LANES), np.float32)
    pixel = np.arange(pixels)
    owner = np.searchsorted(along.start, pixel, side="right") - 1
    tile, lane = np.divmod(pixel - along.start[owner], LANES)
    tile += start[owner]
    weights[tile, along.lower, lane] = 1.0 - along.weight
    weights[tile, along.upper, lane] += along.weight  # the same feature at the cell's edge, where the weight is 0
    for end in np.flatnonzero(np.diff(owner, append=-1)):  # each cell's last pixel
        weights[tile[end], :, lane[end] + 1 :] = weights[tile[end], :, lane[end], None]
    return Tiles(start, weights.reshape(-1))
