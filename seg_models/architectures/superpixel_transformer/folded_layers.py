"""The layers of the deployed Superpixel Transformer; the algebra is in `deployed`, which is the way in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.ops import neighbourhood as nb

if TYPE_CHECKING:
    from seg_models.architectures.superpixel_transformer.model import (
        LocalDualPathCrossAttention,
        SelfAttentionBlock,
    )


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A linear layer with this weight (out, in) and bias (out)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer


def weights_of(mlp: nn.Sequential) -> tuple[Tensor, Tensor]:
    """W1 and W2 of a 2-layer MLP."""
    first, second = mlp[0], mlp[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    return first.weight, second.weight


class Neighbours(nn.Module):
    """Constant indices of the 3x3 neighbourhood: every gather in the graph is one Gather with a constant index.

    Neighbours outside the grid stand for the nearest one inside; `border` takes them out of a softmax.
    """

    near: Tensor
    giver: Tensor
    border: Tensor
    outside: Tensor

    def __init__(self, grid: nb.Grid, like: Tensor) -> None:
        super().__init__()
        rows, cols = grid
        self.count = rows * cols
        r, c = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
        dy, dx = torch.tensor(nb.OFFSETS).unbind(1)
        near_r, near_c = r.reshape(-1, 1) + dy, c.reshape(-1, 1) + dx  # (N, 9)
        near = near_r.clamp(0, rows - 1) * cols + near_c.clamp(0, cols - 1)
        outside = (near_r != near_r.clamp(0, rows - 1)) | (near_c != near_c.clamp(0, cols - 1))
        # Cell j's partial result for its neighbour o belongs to superpixel j + OFFSETS[o]: superpixel i finds it in the
        # cell i - OFFSETS[o], its neighbour 8 - o. Where that lies outside, the same slot is empty in cell i itself.
        slot, cell = torch.arange(9), torch.arange(self.count).reshape(-1, 1)
        giver = torch.where(outside, cell * 9 + slot, near * 9 + 8 - slot).flip(1)
        self.register_buffer("near", near.flatten())  # of N rows
        self.register_buffer("giver", giver.flatten())  # of N * 9 rows
        self.register_buffer(
            "border", torch.zeros(self.count, 9, 1).masked_fill(outside[..., None], nb.BORDER).to(like)
        )
        self.register_buffer("outside", outside[..., None])  # (N, 9, 1)

    def of_cells(self, grid: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, 9, D)."""
        return grid.index_select(1, self.near).reshape(-1, self.count, 9, grid.shape[-1])

    def to_owners(self, partial: Tensor) -> Tensor:
        """Partial results of cells for their neighbours (B, N, 9, D) -> of superpixels from their cells, (B, N, 9, D)."""
        rows = partial.flatten(1, 2).index_select(1, self.giver)
        return rows.reshape(-1, self.count, 9, partial.shape[-1])


class SuperpixelSide(nn.Module):
    """S^{t-1} (B, N, D) -> what the pixels of a layer meet, each (B, N, H * D): queries of eq. 3, keys of eq. 4, values.

    Queries and keys take the second linear of the pixels' MLP with them, and the scale of the scores; values `pixel_out`.
    """

    def __init__(self, layer: LocalDualPathCrossAttention, position: Tensor) -> None:
        super().__init__()
        heads = layer.heads

        def folded(mlp: nn.Sequential, other: Tensor, scale: float) -> nn.Sequential:
            """`mlp` with scale * other_h^T W2_h, one after another for each head, for its second linear W2."""
            first, second = weights_of(mlp)
            mine, theirs = (weight.unflatten(0, (heads, -1)) for weight in (second, other))  # (H, D/H, D)
            return nn.Sequential(linear(first), nn.ReLU(), linear(scale * (theirs.mT @ mine).flatten(0, 1)))

        scale = layer.score_gain * (layer.pixel_out.weight.shape[0] / heads) ** -0.5
        self.query = folded(layer.superpixel_query, weights_of(layer.pixel_key)[1], scale)
        self.key = folded(layer.superpixel_key, weights_of(layer.pixel_query)[1], scale)
        self.value = folded(layer.superpixel_value, layer.pixel_out.weight.t(), 1.0)
        self.position: Tensor
        self.register_buffer("position", position)

    def forward(self, superpixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s = superpixels + self.position
        return self.query(s), self.key(s), self.value(s)


class FoldedCrossAttention(nn.Module):
    """Eq. 3 and 4.

    Args:
        position: of the superpixels, (1, N, D).
        constant: S^{t-1} where it does not depend on the image, as before the first layer; else None.
    """

    def __init__(
        self, layer: LocalDualPathCrossAttention, near: Neighbours, position: Tensor, constant: Tensor | None
    ) -> None:
        super().__init__()
        self.near, self.heads = near, layer.heads
        side = SuperpixelSide(layer, position)
        self.side = side if constant is None else None
        self.query: Tensor
        self.key: Tensor
        self.value: Tensor
        if constant is not None:
            for name, rows in zip(("query", "key", "value"), side(constant), strict=True):
                self.register_buffer(name, rows)
        self.pixel_query, self.pixel_key, self.pixel_value = (
            linear(weights_of(mlp)[0]) for mlp in (layer.pixel_query, layer.pixel_key, layer.pixel_value)
        )
        out = layer.superpixel_out.weight.unflatten(1, (layer.heads, -1)).transpose(0, 1)  # (H, D, D/H)
        value = weights_of(layer.pixel_value)[1].unflatten(0, (layer.heads, -1))  # (H, D/H, D)
        self.superpixel_out = linear((out @ value).transpose(0, 1).flatten(1))  # (D, H * D)

    def forward(self, superpixels: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            superpixels: S^{t-1}, (B, N, D).
            pixels: I^{t-1} + position, (B, N, P, D).

        Returns:
            S^t (B, N, D), and the two factors of the update of the pixels: weights (B, N, 9 * H, P) and the values of the
            cells' neighbours (B, N, 9 * H, D).
        """
        query, key, value = (self.query, self.key, self.value) if self.side is None else self.side(superpixels)
        near, heads, width = self.near, self.heads, superpixels.shape[-1]
        border = near.border.repeat_interleave(heads, 1)  # (N, 9 * H, 1)
        # Pixels come last: a cell's scores are rows that the processor's vectors fit, and both softmaxes go down or along them.
        query, key, value = (near.of_cells(x).reshape(-1, near.count, 9 * heads, width) for x in (query, key, value))
        # Eq. 4: each pixel over its nine superpixels.
        scores = key @ self.pixel_query(pixels).relu().transpose(-1, -2)  # (B, N, 9 * H, P)
        weights = (scores + border).unflatten(2, (9, heads)).softmax(dim=2).flatten(2, 3)
        # Eq. 3: each superpixel over the pixels of nine cells, as in `attend_superpixels_to_pixels`.
        scores = query @ self.pixel_key(pixels).relu().transpose(-1, -2) + border  # (B, N, 9 * H, P)
        owner_max = near.to_owners(scores.amax(dim=-1).unflatten(-1, (9, heads))).amax(dim=2)  # (B, N, H)
        parts = (scores - near.of_cells(owner_max).flatten(2).unsqueeze(-1)).exp()
        total = near.to_owners(parts.sum(dim=-1).unflatten(-1, (9, heads))).sum(dim=2)  # (B, N, H)
        mean = (parts @ self.pixel_value(pixels).relu()).reshape(-1, near.count, 9, heads * width)
        mean = near.to_owners(mean).sum(dim=2).unflatten(-1, (heads, -1)) / total.unsqueeze(-1)  # (B, N, H, D)
        return superpixels + self.superpixel_out(mean.flatten(-2)), weights, value


class FoldedSelfAttention(nn.Module):
    """III-C: a block with its queries, keys and values as matrices of their own and no affine norms.

    Args:
        block: as trained.
        grid: (R, C) of the superpixels.
    """

    def __init__(self, block: SelfAttentionBlock, grid: nb.Grid) -> None:
        super().__init__()
        self.grid, self.pool = grid, block.pool
        self.heads, self.eps1, self.eps2 = block.heads, block.norm1.eps, block.norm2.eps
        width = block.out.weight.shape[0]

        def after(norm: nn.LayerNorm, weight: Tensor, scale: float = 1.0) -> nn.Linear:
            return linear(scale * weight * norm.weight, scale * weight @ norm.bias)

        query, key, value = block.qkv.weight.chunk(3)
        self.query = after(block.norm1, query, (width // block.heads) ** -0.5)
        self.key, self.value = after(block.norm1, key), after(block.norm1, value)
        self.out = linear(block.out.weight)
        expand, shrink = weights_of(block.feed_forward)
        self.expand, self.shrink = after(block.norm2, expand), linear(shrink)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        normed = F.layer_norm(x, x.shape[-1:], eps=self.eps1)
        memory = nb.mean_of_blocks(normed, self.grid, self.pool) if self.pool > 1 else normed  # (B, M, D)
        q, k, v = (
            layer(rows).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, rows in ((self.query, normed), (self.key, memory), (self.value, memory))
        )
        attended = (q @ k.transpose(-1, -2)).softmax(dim=-1) @ v  # (B, H, N, D/H)
        x = x + self.out(attended.transpose(1, 2).flatten(-2))
        return x + self.shrink(F.gelu(self.expand(F.layer_norm(x, x.shape[-1:], eps=self.eps2))))
