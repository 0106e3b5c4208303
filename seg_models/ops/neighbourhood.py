"""The 3x3 superpixel neighbourhood in cell-blocked form.

A feature map of `rows * cell_h` x `cols * cell_w` pixels is cut into a grid of `rows` x `cols` cells, one superpixel a
cell (Superpixel Transformer, Fig. 3). N(p), the neighbourhood of a pixel, is the 3x3 superpixels around its cell;
N(i), the neighbourhood of a superpixel, is the pixels of the 3x3 cells around it.

All pixels of a cell share N(p), so attention is computed a cell at a time: only the small superpixel grid is ever
duplicated 9x, never the pixels (the paper's section IV-C.2 names that duplication as its bottleneck). Every operation is
a standard one (pad, slice, matmul, max, exp), so that exports need no plugin and no Col2Im.

Symbols: B batch, R x C grid, P = cell_h * cell_w pixels of a cell, H heads, D channels of one head, 9 neighbours in
raster order (dy, dx) = (-1,-1), (-1,0) ... (1,1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

OFFSETS: tuple[tuple[int, int], ...] = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
# Score of a neighbour outside the grid: its weight after a softmax is exactly 0, in float16 too, and being finite it
# passes through a resize inside the cell unchanged (all pixels of a cell miss the same neighbours).
BORDER = -1e4

Cell = tuple[int, int]
Grid = tuple[int, int]


def to_cells(features: Tensor, cell: Cell) -> Tensor:
    """Cut a feature map into cells: (B, D, R*h, C*w) -> (B, R, C, h*w, D).

    Raises:
        ValueError: if the map is not a whole number of cells.
    """
    batch, channels, height, width = features.shape
    h, w = cell
    if height % h or width % w:
        raise ValueError(f"feature map {height}x{width} is not a whole number of {h}x{w} cells; pad the image first")
    x = features.reshape(batch, channels, height // h, h, width // w, w)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, height // h, width // w, h * w, channels)


def from_cells(cells: Tensor, cell: Cell) -> Tensor:
    """Inverse of `to_cells`: (B, R, C, h*w, D) -> (B, D, R*h, C*w)."""
    batch, rows, cols, _, channels = cells.shape
    h, w = cell
    x = cells.reshape(batch, rows, cols, h, w, channels)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, rows * h, cols * w)


def gather_neighbours(grid: Tensor) -> Tensor:
    """For every cell the features of its 3x3 superpixels: (B, R, C, D) -> (B, R, C, 9, D), zeros outside the grid."""
    rows, cols = grid.shape[1:3]
    padded = F.pad(grid, (0, 0, 1, 1, 1, 1))
    return torch.stack([padded[:, 1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + cols] for dy, dx in OFFSETS], dim=3)


def mean_of_blocks(rows: Tensor, grid: Grid, side: int) -> Tensor:
    """Means over blocks of side x side superpixels: (B, R*C, D) in raster order -> (B, R*C / side^2, D), in raster order.

    Raises:
        ValueError: if the grid is not a whole number of blocks.
    """
    if grid[0] % side or grid[1] % side:
        raise ValueError(f"grid {grid[0]}x{grid[1]} is not a whole number of {side}x{side} blocks")
    features = rows.reshape(-1, *grid, rows.shape[-1])
    # A sum of slices: engines reduce two axes at once a number at a time.
    total = sum(features[:, y::side, x::side] for y in range(side) for x in range(side))
    assert isinstance(total, Tensor)
    return (total / side**2).flatten(1, 2)


def among_means(blocks: Iterable[Callable[[Tensor], Tensor]], rows: Tensor, grid: Grid, side: int) -> Tensor:
    """Residual blocks among the means of side x side superpixels; each superpixel gets what its mean has gained.

    Args:
        blocks: each (B, M, D) -> (B, M, D), one after another.
        rows: (B, R*C, D) in raster order.
        grid: (R, C).
        side: 1 for the superpixels themselves.

    Returns:
        (B, R*C, D).

    Raises:
        ValueError: see `mean_of_blocks`.
    """
    means = rows if side == 1 else mean_of_blocks(rows, grid, side)
    passed = means
    for block in blocks:
        passed = block(passed)
    return passed if side == 1 else rows + to_blocks(passed - means, grid, side)


def to_blocks(means: Tensor, grid: Grid, side: int) -> Tensor:
    """Hand what blocks of side x side superpixels have to each of them: (B, R*C / side^2, D) -> (B, R*C, D), raster orders."""
    rows, cols = grid[0] // side, grid[1] // side
    blocks = means.reshape(-1, rows, 1, cols, 1, means.shape[-1])
    return blocks.expand(-1, -1, side, -1, side, -1).reshape(-1, grid[0] * grid[1], means.shape[-1])


def shift_to_owner(partial: Tensor, fill: float) -> Tensor:
    """Hand each cell's 9 partial results to the superpixels they belong to.

    `partial[b, r, c, o]` was computed in cell (r, c) for the superpixel at (r, c) + OFFSETS[o]. The result at
    [b, o, r, c] is the part that superpixel (r, c) receives from the cell (r, c) - OFFSETS[o]; `fill` where that cell
    lies outside the grid.

    Shapes: (B, R, C, 9, D) -> (B, 9, R, C, D).
    """
    rows, cols = partial.shape[1:3]
    padded = F.pad(partial, (0, 0, 0, 0, 1, 1, 1, 1), value=fill)
    return torch.stack(
        [padded[:, 1 - dy : 1 - dy + rows, 1 - dx : 1 - dx + cols, o] for o, (dy, dx) in enumerate(OFFSETS)], dim=1
    )


def outside_grid(grid: Grid, device: torch.device | None = None) -> Tensor:
    """bool (R, C, 9): True where a cell's neighbour lies outside the grid."""
    rows, cols = grid
    inside = torch.ones(1, rows, cols, 1, device=device)
    return gather_neighbours(inside)[0, ..., 0] == 0


def neighbour_index(grid: Grid, device: torch.device | None = None) -> Tensor:
    """int64 (R, C, 9): raster index of each neighbouring superpixel, 0 where it lies outside the grid."""
    rows, cols = grid
    index = torch.arange(rows * cols, device=device, dtype=torch.float64).reshape(1, rows, cols, 1)
    return gather_neighbours(index)[0, ..., 0].long()


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, R, C, N, H*D) -> (B, R, C, H, N, D)."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(-3, -2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, R, C, H, N, D) -> (B, R, C, N, H*D)."""
    x = x.transpose(-3, -2)
    return x.reshape(*x.shape[:-2], -1)


def attend_pixels_to_superpixels(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """The pixel update of eq. 4: every pixel attends to the up to 9 superpixels of N(p).

    Args:
        query: (B, R, C, P, H*D) of the pixels, cell by cell.
        key, value: (B, R, C, H*D) of the superpixels.
        heads: H. Scores are scaled by 1/sqrt(D).

    Returns:
        (B, R, C, P, H*D).
    """
    grid = (key.shape[1], key.shape[2])
    q = split_heads(query, heads)  # (B, R, C, H, P, D)
    k = split_heads(gather_neighbours(key), heads)  # (B, R, C, H, 9, D)
    v = split_heads(gather_neighbours(value), heads)  # (B, R, C, H, 9, D)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, R, C, H, P, 9)
    scores = scores.masked_fill(outside_grid(grid, scores.device)[:, :, None, None, :], float("-inf"))
    return merge_heads(scores.softmax(dim=-1) @ v)


def attend_superpixels_to_pixels(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """The superpixel update of eq. 3: every superpixel attends to all pixels of its 3x3 cells, N(i).

    The softmax runs over pixels of nine cells, each cell holding only its own pixels. So each cell computes, for each
    of its nine neighbours, a partial maximum, sum and weighted sum; the partials go to their owners, are rescaled to a
    common maximum and added (the same algebra as blockwise softmax attention).

    Args:
        query: (B, R, C, H*D) of the superpixels.
        key, value: (B, R, C, P, H*D) of the pixels, cell by cell.
        heads: H. Scores are scaled by 1/sqrt(D).

    Returns:
        (B, R, C, H*D).
    """
    q = split_heads(gather_neighbours(query), heads)  # (B, R, C, H, 9, D)
    k = split_heads(key, heads)  # (B, R, C, H, P, D)
    v = split_heads(value, heads)  # (B, R, C, H, P, D)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, R, C, H, 9, P)

    # The maximum only keeps exp() in range; it cancels, so no gradient has to flow through it.
    cell_max = scores.detach().amax(dim=-1).transpose(-1, -2)  # (B, R, C, 9, H)
    owner_max = shift_to_owner(cell_max, fill=float("-inf")).amax(dim=1)  # (B, R, C, H)
    common_max = gather_neighbours(owner_max).transpose(-1, -2)  # (B, R, C, H, 9)
    weights = (scores - common_max.unsqueeze(-1)).exp()  # (B, R, C, H, 9, P)

    cell_sum = weights.sum(dim=-1).transpose(-1, -2)  # (B, R, C, 9, H)
    cell_value = (weights @ v).permute(0, 1, 2, 4, 3, 5)  # (B, R, C, 9, H, D)
    total = shift_to_owner(cell_sum, fill=0.0).sum(dim=1)  # (B, R, C, H)
    value_sum = shift_to_owner(cell_value.flatten(-2), fill=0.0).sum(dim=1)  # (B, R, C, H*D)
    batch, rows, cols = total.shape[:3]
    return (value_sum.reshape(batch, rows, cols, heads, -1) / total.unsqueeze(-1)).flatten(-2)


def association_logits(pixels: Tensor, superpixels: Tensor) -> Tensor:
    """The argument of the softmax of eq. 5, scaled by 1/sqrt(channels); BORDER for superpixels outside the grid.

    Args:
        pixels: (B, R, C, P, D).
        superpixels: (B, R, C, D).

    Returns:
        (B, R, C, P, 9).
    """
    neighbours = gather_neighbours(superpixels)  # (B, R, C, 9, D)
    return mask_border((pixels * pixels.shape[-1] ** -0.5) @ neighbours.transpose(-1, -2))


def mask_border(logits: Tensor) -> Tensor:
    """Association logits (B, R, C, P, 9) with BORDER for the superpixels outside the grid."""
    outside = outside_grid((logits.shape[1], logits.shape[2]), logits.device)
    return logits.masked_fill(outside[:, :, None, :], BORDER)


def bilinear_matrix(source: Cell, target: Cell) -> Tensor:
    """Bilinear resizing (half-pixel centres) of one cell as a matrix: (h'*w', h*w), rows sum to one.

    Neighbour k of a cell is another superpixel than neighbour k of the next cell, so an association map must be
    resized inside each cell and never across the cells' edges.
    """
    size = source[0] * source[1]
    identity = torch.eye(size).reshape(1, size, *source)
    return F.interpolate(identity, size=target, mode="bilinear", align_corners=False).reshape(size, -1).t().contiguous()


def upsample_in_cells(logits: Tensor, source: Cell, target: Cell) -> Tensor:
    """Resize association logits inside every cell: (B, R, C, h*w, 9) -> (B, R, C, h'*w', 9)."""
    if source == target:
        return logits
    return bilinear_matrix(source, target).to(logits) @ logits


def association(logits: Tensor) -> Tensor:
    """Eq. 5: softmax over N(p). (B, R, C, P, 9), border masked, -> the same shape."""
    return logits.softmax(dim=-1)


def paint(weights: Tensor, values: Tensor, cell: Cell) -> Tensor:
    """Eq. 6: Y_p = sum over N(p) of Q_pi C_i.

    Args:
        weights: Q, (B, R, C, P, 9).
        values: C, (B, R, C, K), one vector a superpixel (class logits, say).
        cell: pixels of a cell, (h, w) with h * w = P.

    Returns:
        (B, K, R*h, C*w).
    """
    return from_cells(weights @ gather_neighbours(values), cell)


def hard_superpixels(logits: Tensor, cell: Cell) -> Tensor:
    """Eq. 7: the raster index of the superpixel with the largest association.

    Args:
        logits: association logits, border masked, or weights; (B, R, C, P, 9).
        cell: (h, w) with h * w = P.

    Returns:
        int64 (B, R*h, C*w), each in [0, R*C).
    """
    batch, rows, cols = logits.shape[:3]
    choice = logits.argmax(dim=-1)  # (B, R, C, P) in 0..8
    index = neighbour_index((rows, cols), logits.device)[None].expand(batch, -1, -1, -1)  # (B, R, C, 9)
    owner = index.gather(3, choice)  # (B, R, C, P)
    return from_cells(owner.unsqueeze(-1), cell)[:, 0]
