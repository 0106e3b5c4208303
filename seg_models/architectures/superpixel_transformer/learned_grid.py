"""Learned grids, queries and position embeddings, at other sizes than they were made for."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resize_grid(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of a learned (1, D, h, w) grid; the grid itself where the size already fits."""
    if tuple(grid.shape[-2:]) == tuple(size):
        return grid
    return F.interpolate(grid, size=size, mode="bilinear", align_corners=False)


def fit_learned_grid(value: Tensor, own: Tensor | None) -> Tensor:
    """A tensor of a checkpoint at the size of the model's own, where both are learned grids of as many channels; else itself."""
    are_grids = own is not None and value.ndim == own.ndim == 4 and value.shape[:2] == own.shape[:2] == (1, value.shape[1])
    return resize_grid(value, (own.shape[-2], own.shape[-1])) if own is not None and are_grids else value
