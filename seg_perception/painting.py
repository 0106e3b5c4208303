"""From the scores of a superpixel grid to labels, confidence and superpixels, at any size, in one pass on the processor.

What is painted is defined in docs/contract.md, form `association` (Superpixel Transformer, eq. 5-7); the loops are in
`painting_loops.py`.

    painter = Painter(geometry, threads=2)
    painted = painter.paint(association, class_logits, (480, 640))
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from seg_perception.compiled import compiled_input
from seg_perception.painting_geometry import PaintingGeometry, axis, tiles
from seg_perception.painting_loops import paint_band

MAX_CLASSES = 255


@dataclass
class Painted:
    """The result for one image; None for what was not wanted.

    Attributes:
        labels: uint8 [H, W], the class of the largest score, the first of several; 255 in cells whose scores are not finite.
        confidence: uint8 [H, W], its softmax probability x 255, rounded; 0 in such cells.
        superpixels: uint16 [H, W], raster index of the neighbour with the largest association, the first of several; the
            pixel's own cell where scores are not finite.
        class_logits: float [R, C, K], what was painted, where an engine did it; the engine's own until its next run.
    """

    labels: np.ndarray | None
    confidence: np.ndarray | None
    superpixels: np.ndarray | None
    class_logits: np.ndarray | None = None


class Painter:
    """Paints images of one model. One thread at a time may call it.

    Args:
        geometry: of the model.
        threads: that paint, the caller's among them; at least 1. They work while the engine waits, so they may be as many as
            the engine's.

    Raises:
        ValueError: fewer than one thread.
    """

    def __init__(self, geometry: PaintingGeometry, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"painting with {threads} threads; expected at least 1")
        self.geometry = geometry
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None  # made at the first image, and anew after `close`

    def warm_up(self) -> None:
        """Compile the loops, or load them from the cache on disk, so that no frame waits for that."""
        geometry = self.geometry
        cells = (*geometry.grid, geometry.feature_cell[0] * geometry.feature_cell[1], 9)
        self.paint(np.zeros(cells, np.float32), np.zeros((*geometry.grid, 1), np.float32), (1, 1))

    def close(self) -> None:
        """End the threads; the next image starts them again."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def paint(
        self,
        association: np.ndarray,
        class_logits: np.ndarray,
        size: tuple[int, int],
        labels: bool = True,
        confidence: bool = True,
        superpixels: bool = True,
    ) -> Painted:
        """Paint one image.

        Args:
            association: float32 or float16 [R, C, P, 9], scores before the softmax at the pixel features.
            class_logits: float32 or float16 [R, C, K], K at most 255.
            size: (H, W) of the result, which shows what the network's input shows.
            labels, confidence, superpixels: what is wanted; the rest is not computed.

        Raises:
            ValueError: shapes that do not fit the geometry, or a size that is not positive.
        """
        self._check(association, class_logits, size)
        geometry = self.geometry
        down, across = zip(
            size, geometry.input_size, geometry.cell, geometry.feature_cell, geometry.grid, strict=True
        )
        rows, columns, column_tiles = axis(*down), axis(*across), tiles(*across)
        scores = np.ascontiguousarray(association, np.float32).reshape(*geometry.grid, *geometry.feature_cell, 9)
        logits = np.ascontiguousarray(class_logits, np.float32)
        painted = Painted(
            np.empty(size, np.uint8) if labels else None,
            np.empty(size, np.uint8) if confidence else None,
            np.empty(size, np.uint16) if superpixels else None,
        )
        arguments = (
            *(compiled_input(array) for array in (scores, logits, rows.start, columns.start)),
            *(compiled_input(array) for array in (rows.lower, rows.upper, rows.weight)),
            *(compiled_input(array) for array in (column_tiles.start, column_tiles.weights)),
            _UNWANTED if painted.labels is None else painted.labels,
            _UNWANTED if painted.confidence is None else painted.confidence,
            _UNWANTED_IDS if painted.superpixels is None else painted.superpixels,
        )
        if self._pool is None and self._threads > 1:
            self._pool = ThreadPoolExecutor(self._threads - 1, "painter")
        # A row of cells each: whoever is free takes the next, since cells differ in work.
        bands = iter(range(geometry.grid[0]))
        helpers = [self._pool.submit(_paint_bands, bands, arguments) for _ in range(self._threads - 1)] if self._pool else []
        _paint_bands(bands, arguments)
        for helper in helpers:
            helper.result()
        return painted

    def _check(self, association: np.ndarray, class_logits: np.ndarray, size: tuple[int, int]) -> None:
        features = self.geometry.feature_cell
        expected = (*self.geometry.grid, features[0] * features[1], 9)
        if association.shape != expected:
            raise ValueError(f"association is {list(association.shape)}, expected {list(expected)}")
        if class_logits.ndim != 3 or class_logits.shape[:2] != expected[:2] or class_logits.shape[2] > MAX_CLASSES:
            raise ValueError(
                f"class_logits are {list(class_logits.shape)}, expected {[*expected[:2], 'K']} with K at most {MAX_CLASSES}"
            )
        if min(size) < 1:
            raise ValueError(f"size is {list(size)}, expected [H, W], at least 1 pixel each")


_UNWANTED = np.empty((0, 0), np.uint8)
_UNWANTED_IDS = np.empty((0, 0), np.uint16)


def _paint_bands(bands: Iterator[int], arguments: tuple[np.ndarray, ...]) -> None:
    for band in bands:  # an iterator of a range: threads may share it
        paint_band(band, band + 1, *arguments)
