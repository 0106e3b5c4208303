"""Learned grids, queries and position embeddings, at other sizes than they were made for."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

GRIDS = ("queries", "superpixel_position", "pixel_position")  # of a Superpixel Transformer, by their names in it


def resize_grid(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of a learned (1, D, h, w) grid; the grid itself where the size already fits."""
    if tuple(grid.shape[-2:]) == tuple(size):
        return grid
    return F.interpolate(grid, size=size, mode="bilinear", align_corners=False)


def fit_learned_grid(key: str, value: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    """A checkpoint's tensor, at the size of the model's own if it is one of GRIDS and of as many channels; else itself."""
    if key not in GRIDS or key not in own or value.ndim != 4 or value.shape[:2] != own[key].shape[:2]:
        return value
    return resize_grid(value, (own[key].shape[-2], own[key].shape[-1]))
