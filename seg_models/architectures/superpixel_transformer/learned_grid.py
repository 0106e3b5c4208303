"""Learned grids, queries and position embeddings, at other sizes than they were made for."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resize_grid(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of a learned (1, D, h, w) grid; the grid itself where the size already fits."""
    if tuple(grid.shape[-2:]) == tuple(size):
        return grid
    return F.interpolate(grid, size=size, mode="bilinear", align_corners=False)

