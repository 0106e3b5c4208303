"""Painting: from the scores of a superpixel grid to a decision for every pixel, at any size (eq. 5-7). The reference.

Whoever paints a deployment model of the form `association` (this, numba on a robot's processor, a kernel on its GPU) gives
these results but for ties in the last bit; docs/contract.md has the same in formulas. Slow, and in plain torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from seg_models.ops import neighbourhood as nb

UNLABELLED = 255


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


class Painting(NamedTuple):
    """A decision for every pixel.

    Attributes:
        labels: uint8 (B, H, W), the class of the largest score, the first of several; UNLABELLED where scores are broken.
        confidence: uint8 (B, H, W), its softmax probability x 255, rounded; 0 where scores are broken.
        superpixels: int32 (B, H, W), raster index of the neighbour with the largest association, the first of several; of
            the pixel's own cell where scores are broken.
    """

    labels: Tensor
    confidence: Tensor
    superpixels: Tensor


class AxisSamples(NamedTuple):
    """Where the pixels of one axis lie.

    Attributes:
        cell: int64 (N,), the pixel's cell.
        lower, upper: int64 (N,), the features of that cell on its two sides; the same at the cell's edge.
        weight: float32 (N,) in [0, 1), share of `upper`.
    """

    cell: Tensor
    lower: Tensor
    upper: Tensor
    weight: Tensor


def axis_samples(pixels: int, input_side: int, cell: int, features: int) -> AxisSamples:
    """Bilinear samples inside each cell: `pixels` pixel centres spread over `input_side` pixels of the network's input.

    A coordinate beyond the centres of a cell's outermost features takes the outermost one (as `F.interpolate` with
    `align_corners=False` does inside one cell).

    Args:
        pixels: of the output along this axis.
        input_side: of the network's input, in pixels.
        cell: pixels of the network's input in a cell.
        features: in a cell.
    """
    # In 1 / (2 pixels) of a network pixel everything is whole, so that no rounding moves a pixel over a cell's edge.
    position = (2 * torch.arange(pixels) + 1) * input_side
    index = position.div(2 * pixels * cell, rounding_mode="floor")
    inside = position - index * (2 * pixels * cell)
    feature = (inside.double() * features / (2 * pixels * cell) - 0.5).clamp(0, features - 1)
    lower = feature.floor().long()
    return AxisSamples(index, lower, (lower + 1).clamp(max=features - 1), (feature - lower).float())


def paint_association(
    association: Tensor, class_logits: Tensor, geometry: PaintingGeometry, size: tuple[int, int] | None = None
) -> Painting:
    """Decide for every pixel of an image that shows what the network's input shows.

    Neighbours outside the grid have no weight, whatever their scores are. A cell in whose scores, or in the class scores of
    whose neighbours, anything is not finite is broken: see `Painting`.

    Args:
        association: float (B, R, C, P, 9), scores before the softmax of eq. 5 at the pixel features.
        class_logits: float (B, R, C, K), K at most 255.
        geometry: of the model.
        size: (H, W) of the result; None for the network's input.

    Raises:
        ValueError: shapes that do not fit each other or the geometry, or a size that is not positive.
    """
    check_shapes(association, class_logits, geometry)
    height, width = geometry.input_size if size is None else size
    if min(height, width) < 1:
        raise ValueError(f"size is {(height, width)}; expected (H, W), at least 1 pixel each")
    cell, features = geometry.cell, geometry.feature_cell
    axes = zip((height, width), geometry.input_size, cell, features, strict=True)
    y, x = (AxisSamples(*(part.to(association.device) for part in axis_samples(*axis))) for axis in axes)
    outside = nb.outside_grid(geometry.grid, association.device)  # (R, C, 9)
    scores = association.float().masked_fill(outside[:, :, None, :], nb.BORDER)  # (B, R, C, P, 9)
    near = nb.gather_neighbours(class_logits.float())  # (B, R, C, 9, K)
    broken = ~(scores.isfinite().all(-1).all(-1) & near.isfinite().all(-1).all(-1))  # (B, R, C)
    maps = nb.from_cells(scores.masked_fill(broken[..., None, None], 0.0), features)  # (B, 9, R*h, C*w)
    near = near.masked_fill(broken[..., None, None], 0.0)
    owners = nb.neighbour_index(geometry.grid, association.device)  # (R, C, 9)
    labels, confidence, superpixels = [], [], []
    for row in range(int(y.cell.max()) + 1):  # a row of cells at a time, for the memory's sake
        here = y.cell == row
        first = row * features[0]
        left = maps[..., x.cell * features[1] + x.lower]  # (B, 9, R*h, W)
        right = maps[..., x.cell * features[1] + x.upper]
        across = left + (right - left) * x.weight
        top, bottom = across[:, :, first + y.lower[here]], across[:, :, first + y.upper[here]]  # (B, 9, n, W)
        mixed = top + (bottom - top) * y.weight[here][:, None]
        mixed = mixed.masked_fill(outside[row, x.cell].T[:, None], float("-inf"))
        weights = mixed.softmax(dim=1)  # eq. 5
        logits = torch.einsum("bonx,bxok->bknx", weights, near[:, row, x.cell])  # eq. 6
        best = logits.max(dim=1)
        probability = 1.0 / (logits - best.values[:, None]).exp().sum(dim=1)
        owner = owners[row, x.cell].T[None, :, None].expand_as(mixed)  # (B, 9, n, W)
        owner = owner.gather(1, mixed.argmax(dim=1, keepdim=True))[:, 0]  # eq. 7
        lost = broken[:, row, x.cell][:, None].expand_as(owner)
        labels.append(best.indices.masked_fill(lost, UNLABELLED).to(torch.uint8))
        confidence.append((probability * 255.0).round().masked_fill(lost, 0.0).to(torch.uint8))
        superpixels.append(torch.where(lost, row * geometry.grid[1] + x.cell, owner).to(torch.int32))
    return Painting(torch.cat(labels, 1), torch.cat(confidence, 1), torch.cat(superpixels, 1))


def check_shapes(association: Tensor, class_logits: Tensor, geometry: PaintingGeometry) -> None:
    """Raise ValueError for tensors that do not fit each other or the geometry."""
    (rows, cols), (h, w) = geometry.grid, geometry.feature_cell
    expected = (rows, cols, h * w, 9)
    if association.ndim != 5 or tuple(association.shape[1:]) != expected:
        raise ValueError(f"association of shape {tuple(association.shape)}; expected (B, {str(expected)[1:]}")
    if class_logits.ndim != 4 or class_logits.shape[:3] != association.shape[:3] or class_logits.shape[3] > UNLABELLED:
        shape = (association.shape[0], rows, cols)
        raise ValueError(
            f"class_logits of shape {tuple(class_logits.shape)}; expected ({str(shape)[1:-1]}, K), K at most {UNLABELLED}"
        )
    for side, count, pixels in zip(geometry.input_size, geometry.grid, geometry.cell, strict=True):
        if count * pixels < side:
            raise ValueError(
                f"{count} cells of {pixels} pixels cover {count * pixels} pixels; expected at least {side}"
            )
