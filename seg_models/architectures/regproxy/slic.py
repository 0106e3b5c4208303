"""SLIC superpixels (Achanta et al., 2012) on a regular grid of seeds, on any device, a batch at once.

k-means in colour and place with a local search: a pixel chooses among the 3x3 seeds around its cell, which is the
neighbourhood of `ops/neighbourhood.py`. (The original searches a square of twice the spacing around each centre, which
is the same neighbourhood while centres stay near their cells, and then joins stray fragments; they are left here.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from seg_models.ops import neighbourhood as nb

# sRGB primaries to XYZ over the D65 white, rows X, Y, Z.
XYZ_FROM_RGB = (
    (0.412453 / 0.950456, 0.357580 / 0.950456, 0.180423 / 0.950456),
    (0.212671, 0.715160, 0.072169),
    (0.019334 / 1.088754, 0.119193 / 1.088754, 0.950227 / 1.088754),
)


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB in 0..1 -> CIELAB with L in 0..100; (B, 3, H, W) both."""
    rgb = rgb.clamp(0, 1)
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = torch.einsum("ij,bjhw->bihw", torch.tensor(XYZ_FROM_RGB, dtype=rgb.dtype, device=rgb.device), linear)
    f = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def slic(rgb: Tensor, cell: tuple[int, int], compactness: float = 10.0, iterations: int = 10) -> Tensor:
    """Superpixels, one a cell.

    Args:
        rgb: (B, 3, R * h, C * w), sRGB in 0..1.
        cell: (h, w), pixels of a cell.
        compactness: m of the paper; colour distance that weighs as much as one cell of place.
        iterations: 10 in the paper.

    Returns:
        int64 (B, R, C, h * w): for each pixel of a cell the neighbour, 0 to 8 in raster order, that it belongs to.
    """
    height, width = rgb.shape[-2:]
    y = torch.arange(height, dtype=rgb.dtype, device=rgb.device) / cell[0]
    x = torch.arange(width, dtype=rgb.dtype, device=rgb.device) / cell[1]
    place = torch.stack(torch.meshgrid(y, x, indexing="ij"))[None].expand(rgb.shape[0], -1, -1, -1) * compactness
    pixels = nb.to_cells(torch.cat([rgb_to_lab(rgb), place], dim=1), cell)  # (B, R, C, P, 5)
    outside = nb.outside_grid((pixels.shape[1], pixels.shape[2]), rgb.device)[:, :, None, :]  # (R, C, 1, 9)
    centres = pixels.mean(dim=3)  # (B, R, C, 5)
    choice = nearest_centre(pixels, centres, outside)
    for _ in range(iterations - 1):
        member = torch.nn.functional.one_hot(choice, 9).to(rgb.dtype).transpose(-1, -2)  # (B, R, C, 9, P)
        total = nb.shift_to_owner(member @ pixels, fill=0.0).sum(dim=1)  # (B, R, C, 5)
        count = nb.shift_to_owner(member.sum(dim=-1, keepdim=True), fill=0.0).sum(dim=1)  # (B, R, C, 1)
        centres = torch.where(count > 0, total / count.clamp(min=1), centres)
        choice = nearest_centre(pixels, centres, outside)
    return choice


def nearest_centre(pixels: Tensor, centres: Tensor, outside: Tensor) -> Tensor:
    """The nearest of the 3x3 centres: (B, R, C, P, 5), (B, R, C, 5), (R, C, 1, 9) -> int64 (B, R, C, P)."""
    near = nb.gather_neighbours(centres)  # (B, R, C, 9, 5)
    squared = (pixels.unsqueeze(4) - near.unsqueeze(3)).square().sum(dim=-1)  # (B, R, C, P, 9)
    return squared.masked_fill(outside, float("inf")).argmin(dim=-1)


def owners(choice: Tensor, cell: tuple[int, int]) -> Tensor:
    """Neighbour choices (B, R, C, h * w) -> raster index of each pixel's superpixel, int64 (B, R * h, C * w)."""
    index = nb.neighbour_index((choice.shape[1], choice.shape[2]), choice.device)[None]  # (1, R, C, 9)
    index = index.expand(choice.shape[0], -1, -1, -1).gather(3, choice)  # (B, R, C, P)
    return nb.from_cells(index.unsqueeze(-1), cell)[:, 0]


def bounding_boxes(choice: Tensor, cell: tuple[int, int]) -> Tensor:
    """Enclosing boxes of the superpixels.

    Args:
        choice: int64 (B, R, C, h * w), from `slic`.
        cell: (h, w).

    Returns:
        float (B, R, C, 4): left, top, right, bottom in pixels, the last two exclusive. A superpixel without any pixel
        has its cell.
    """
    batch, rows, cols, _ = choice.shape
    y, x = torch.meshgrid(
        torch.arange(rows * cell[0], device=choice.device, dtype=torch.float32),
        torch.arange(cols * cell[1], device=choice.device, dtype=torch.float32),
        indexing="ij",
    )
    place = nb.to_cells(torch.stack([x, y])[None], cell).unsqueeze(3)  # (1, R, C, 1, P, 2)
    member = torch.nn.functional.one_hot(choice, 9).bool().transpose(-1, -2).unsqueeze(-1)  # (B, R, C, 9, P, 1)
    big = float(max(rows * cell[0], cols * cell[1]))
    low = place.expand(batch, -1, -1, 9, -1, -1).masked_fill(~member, big).amin(dim=4)  # (B, R, C, 9, 2)
    high = place.expand(batch, -1, -1, 9, -1, -1).masked_fill(~member, -1.0).amax(dim=4)
    low = nb.shift_to_owner(low, fill=big).amin(dim=1)  # (B, R, C, 2)
    high = nb.shift_to_owner(high, fill=-1.0).amax(dim=1)
    own_low, own_high = place[:, :, :, 0].amin(dim=3), place[:, :, :, 0].amax(dim=3)  # (1, R, C, 2)
    empty = high < 0
    return torch.cat([torch.where(empty, own_low, low), torch.where(empty, own_high, high) + 1], dim=-1)
