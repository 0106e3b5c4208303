"""Scores as an exponential mean over time, against flicker; anew wherever something moves.

The mean is taken of what the network gives for its superpixels, before painting: edges stay sharp, since the pixels of one
frame are never mixed with those of another.
"""

from __future__ import annotations

import cv2
import numpy as np

LONGEST_GAP_S = 0.5  # between two frames of one scene; after it, and where stamps go back, the mean begins anew
REDUCTION = 4  # pixels of the network's input that are one pixel of the comparison, down and across: noise averages out
WINDOW = 32  # pixels of the network's input; the mean over a smaller square would take noise for motion
MOTION = 3.0  # grey levels by which such a window differs where something has moved; noise of 8 levels gives 2


class TemporalSmoother:
    """The mean of one camera's scores. One thread at a time may use it.

    Args:
        motion: grey levels, see MOTION; infinite: the mean goes on whatever moves.
    """

    def __init__(self, motion: float = MOTION) -> None:
        self._motion = motion
        self._mean: dict[str, np.ndarray] = {}
        self._view: np.ndarray | None = None
        self._stamp_s = 0.0

    def reset(self) -> None:
        """Forget what was."""
        self._mean = {}
        self._view = None

    def smooth(
        self, outputs: dict[str, np.ndarray], image: np.ndarray, stamp_s: float, weight: float, cell: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """The mean with a frame's scores taken in.

        Args:
            outputs: `association` float [R, C, P, 9] and `class_logits` float [R, C, K] of the frame; only read.
            image: uint8 [H, W, 3], the network's input.
            stamp_s: of the frame.
            weight: of the mean so far, 0 to below 1.
            cell: (h, w), pixels of the network's input in a cell; cells may hang over it.

        Returns:
            the same names and shapes, float32; they hold until the next call.
        """
        view = _view_of(image)
        fresh = {name: array.astype(np.float32) for name, array in outputs.items()}
        goes_on = (
            self._view is not None
            and self._view.shape == view.shape
            and 0 < stamp_s - self._stamp_s <= LONGEST_GAP_S
            and all(name in self._mean and self._mean[name].shape == array.shape for name, array in fresh.items())
        )
        if goes_on:
            assert self._view is not None
            grid = fresh["class_logits"].shape[:2]
            kept = weight * _still(self._view, view, (grid[0], grid[1]), cell, self._motion)  # (R, C)
            for name, array in fresh.items():
                kept_here = kept.reshape(grid + (1,) * (array.ndim - 2))
                with np.errstate(invalid="ignore"):
                    moved = kept_here * (self._mean[name] - array)
                array += np.where(np.isfinite(moved), moved, 0)
        self._mean, self._view, self._stamp_s = fresh, view, stamp_s
        return fresh


def _view_of(image: np.ndarray) -> np.ndarray:
    """Reduced: uint8 [H / REDUCTION, W / REDUCTION, 3]."""
    size = (max(1, image.shape[1] // REDUCTION), max(1, image.shape[0] // REDUCTION))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _still(
    before: np.ndarray, now: np.ndarray, grid: tuple[int, int], cell: tuple[int, int], motion: float
) -> np.ndarray:
    """1.0 in the cells of the grid where nothing moves, nor in the cells beside them: float32 [R, C].

    Cells smaller than WINDOW are looked at together, each in all the squares of such cells that it is in.
    """
    difference: np.ndarray = cv2.absdiff(before, now).astype(np.float32)
    below, right = (
        max(0, cells * pixels // REDUCTION - side)
        for cells, pixels, side in zip(grid, cell, difference.shape[:2], strict=True)
    )
    if below or right:
        difference = cv2.copyMakeBorder(difference, 0, below, 0, right, cv2.BORDER_REPLICATE)
    by_cell = cv2.resize(difference, grid[::-1], interpolation=cv2.INTER_AREA)
    rows, columns = (min(cells, max(1, round(WINDOW / pixels))) for cells, pixels in zip(grid, cell, strict=True))
    # (r, c): of the cells r to r + rows - 1 and c to c + columns - 1, and of the colour that says most.
    windows = cv2.blur(by_cell, (columns, rows), anchor=(0, 0)).max(-1)
    windows[grid[0] - rows + 1 :] = windows[:, grid[1] - columns + 1 :] = 0.0  # that would begin too late to be whole
    # A cell is in the windows that begin up to rows - 1 above it; with those beside it, up to rows above and 1 below.
    beside = np.ones((rows + 2, columns + 2), np.uint8)
    moves = cv2.dilate((windows > motion).astype(np.uint8), beside, anchor=(columns, rows))
    return 1.0 - moves.astype(np.float32)
