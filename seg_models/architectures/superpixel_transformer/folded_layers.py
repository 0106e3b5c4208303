"""The layers of the deployed Superpixel Transformer; the algebra is in `deployed`, which is the way in."""

from __future__ import annotations

from itertools import chain
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
    """Constant indices of the neighbourhoods of blocks: every gather in the graph is one Gather with a constant index.

    A block is b x b cells that are attended from and to together: M = N / b^2 blocks, of P * b^2 pixels, with a window of
    W = (b + 2)^2 superpixels around each. With b = 1 it is the 3x3 neighbourhood of a cell. Cells of few pixels are better off
    in blocks of four: 16 superpixels are gathered for them in place of 36, and one product of matrices is worth doing where
    four were tiny. What a pixel must not see of its block's window, `hidden` takes out of a softmax.

    Superpixels outside the grid stand for the nearest one inside and are hidden, too.

    Args:
        grid: (R, C) of the superpixels.
        cell: (h, w) of a cell in pixel features.
        device: of the indices.

    Attributes:
        side: b.
        block: (h, w) of a block in pixel features.
        blocks: (R / b, C / b).
        block_count: M.
        window: W.
        near: int64 (M * W), the superpixel of each slot of each window.
        giver: int64 (N * G), for each superpixel the slots that are its own, of M * W (see `givers`).
        hidden: bool (M, W, 1) with b = 1, else (M, W, b^2 P): which slots a pixel must not see.
        own: int64 (b^2 * P * 9), each pixel's nine among the W * b^2 P scores of its block; not there with b = 1.
        outside: bool (N, 1, 9), which of a cell's nine lie outside the grid.
    """

    near: Tensor
    giver: Tensor
    hidden: Tensor
    own: Tensor
    outside: Tensor

    def __init__(self, grid: nb.Grid, cell: nb.Cell, device: torch.device) -> None:
        super().__init__()
        rows, cols = grid
        self.side = side = block_side(grid, cell)
        self.blocks = (rows // side, cols // side)
        self.grid, self.block, self.window = grid, (cell[0] * side, cell[1] * side), (side + 2) ** 2
        self.block_count = self.blocks[0] * self.blocks[1]
        with torch.device("cpu"):  # indices have values, also in the outline of a model, which has none
            indices = self.indices(cell)
        for name, values in indices.items():  # they follow from the grid alone, and are in no checkpoint
            self.register_buffer(name, values.to(device), persistent=False)

    def indices(self, cell: nb.Cell) -> dict[str, Tensor]:
        """All the buffers, by name, for cells of (h, w) pixel features."""
        (rows, cols), side = self.grid, self.side
        top, left = torch.meshgrid(*(torch.arange(n) * side for n in self.blocks), indexing="ij")
        dy, dx = torch.meshgrid(torch.arange(side + 2), torch.arange(side + 2), indexing="ij")  # in the window
        near_r, near_c = top.reshape(-1, 1) + dy.reshape(-1) - 1, left.reshape(-1, 1) + dx.reshape(-1) - 1  # (M, W)
        near = near_r.clamp(0, rows - 1) * cols + near_c.clamp(0, cols - 1)
        outside = (near_r != near_r.clamp(0, rows - 1)) | (near_c != near_c.clamp(0, cols - 1))
        y, x = torch.meshgrid(torch.arange(self.block[0]), torch.arange(self.block[1]), indexing="ij")
        y, x = y.reshape(-1), x.reshape(-1)  # (b^2 P) pixels of a block
        dy, dx = dy.reshape(-1, 1), dx.reshape(-1, 1)
        reach = ((dy - y // cell[0] - 1).abs() <= 1) & ((dx - x // cell[1] - 1).abs() <= 1)  # (W, b^2 P)
        found = {
            "near": near.flatten(),
            "giver": givers(near, outside, rows * cols).flatten(),
            "hidden": outside[..., None] if side == 1 else outside[..., None] | ~reach,
            "outside": nb.outside_grid(self.grid).reshape(-1, 1, 9),
        }
        if side > 1:  # cell by cell: (b^2, P, 9)
            u, v, py, px, o = torch.meshgrid(*map(torch.arange, (side, side, cell[0], cell[1], 9)), indexing="ij")
            slot = (u + o // 3) * (side + 2) + v + o % 3
            pixel = (u * cell[0] + py) * self.block[1] + v * cell[1] + px
            found["own"] = (slot * y.numel() + pixel).flatten()
        return found

    def of_blocks(self, superpixels: Tensor) -> Tensor:
        """What superpixels have (B, N, D) -> the windows of the blocks (B, M, W, D)."""
        slots = superpixels.index_select(1, self.near)
        return slots.reshape(-1, self.block_count, self.window, superpixels.shape[-1])

    def to_owners(self, partial: Tensor) -> Tensor:
        """Partial results of blocks for their windows (B, M, W, D) -> of superpixels, from each of G blocks, (B, N, G, D)."""
        superpixels = self.grid[0] * self.grid[1]
        rows = partial.flatten(1, 2).index_select(1, self.giver)
        return rows.reshape(-1, superpixels, self.giver.shape[0] // superpixels, partial.shape[-1])

    def of_pixels(self, scores: Tensor) -> Tensor:
        """Scores of blocks for their windows (B, M, W, b^2 P) -> of pixels for their nine, (B, N, P, 9), BORDER outside."""
        if self.side == 1:
            return scores.transpose(-1, -2).masked_fill(self.outside, nb.BORDER)
        (rows, cols), side = self.blocks, self.side
        nine = scores.flatten(2).index_select(2, self.own)  # (B, M, b * b * P * 9)
        nine = nine.reshape(-1, rows, cols, side, nine.shape[-1] // side).transpose(2, 3)  # (B, R/b, b, C/b, b * P * 9)
        return nine.reshape(-1, self.outside.shape[0], nine.shape[-1] // side // 9, 9).masked_fill(
            self.outside, nb.BORDER
        )


def block_side(grid: nb.Grid, cell: nb.Cell) -> int:
    """b: 2 for cells of up to four pixels on a grid of whole blocks, where a window costs less than four neighbourhoods."""
    return 2 if cell[0] * cell[1] <= 4 and not (grid[0] % 2 or grid[1] % 2) else 1


def givers(near: Tensor, outside: Tensor, superpixels: int) -> Tensor:
    """For each superpixel the slots (block, place in its window) that are its own, int64 (N, G).

    Superpixels at the grid's edge have fewer; what is missing of G is a slot outside the grid, whose results are empty.

    Args:
        near: superpixel of each slot, (M, W).
        outside: whether it stands for one outside the grid, (M, W).
        superpixels: N.
    """
    slots: list[list[int]] = [[] for _ in range(superpixels)]
    for slot, (owner, is_outside) in enumerate(zip(near.flatten().tolist(), outside.flatten().tolist(), strict=True)):
        if not is_outside:
            slots[owner].append(slot)
    most = max(map(len, slots))
    empty = outside.flatten().nonzero()[:1].flatten().tolist()
    return torch.tensor([mine + empty * (most - len(mine)) for mine in slots])


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
        self.query: Tensor
        self.key: Tensor
        self.value: Tensor
        rows = () if constant is None else side(constant)
        # An engine computes what follows from constants when it loads a file; the file has what is fewer numbers. (In 8 bits
        # the layers that are left are trained, folded rows are not.)
        numbers = sum(x.numel() for x in chain(side.parameters(), side.buffers()))
        is_folded = constant is not None and sum(x.numel() for x in rows) <= numbers
        self.side = None if is_folded else side
        if is_folded:
            for name, values in zip(("query", "key", "value"), rows, strict=True):
                self.register_buffer(name, values)
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
            pixels: I^{t-1} + position of M blocks, (B, M, b^2 P, D).

        Returns:
            S^t (B, N, D), and the two factors of the update of the pixels: weights (B, M, W * H, b^2 P) and the values of the
            blocks' windows (B, M, W * H, D).
        """
        query, key, value = (self.query, self.key, self.value) if self.side is None else self.side(superpixels)
        near, heads, width = self.near, self.heads, superpixels.shape[-1]
        window = near.window
        # Pixels come last: a block's scores are rows that the processor's vectors fit, and both softmaxes go down or along them.
        query, key, value = (
            near.of_blocks(x).reshape(-1, near.block_count, window * heads, width) for x in (query, key, value)
        )
        # Eq. 4: each pixel over its nine superpixels.
        scores = key @ self.pixel_query(pixels).relu().transpose(-1, -2)  # (B, M, W * H, b^2 P)
        weights = self.masked(scores).unflatten(2, (window, heads)).softmax(dim=2).flatten(2, 3)
        # Eq. 3: each superpixel over the pixels of nine cells, as in `attend_superpixels_to_pixels`.
        scores = self.masked(query @ self.pixel_key(pixels).relu().transpose(-1, -2))  # (B, M, W * H, b^2 P)
        owner_max = near.to_owners(scores.amax(dim=-1).unflatten(-1, (window, heads))).amax(dim=2)  # (B, N, H)
        parts = (scores - near.of_blocks(owner_max).flatten(2).unsqueeze(-1)).exp()
        total = near.to_owners(parts.sum(dim=-1).unflatten(-1, (window, heads))).sum(dim=2)  # (B, N, H)
        mean = (parts @ self.pixel_value(pixels).relu()).reshape(-1, near.block_count, window, heads * width)
        mean = near.to_owners(mean).sum(dim=2).unflatten(-1, (heads, -1)) / total.unsqueeze(-1)  # (B, N, H, D)
        return superpixels + self.superpixel_out(mean.flatten(-2)), weights, value

    def masked(self, scores: Tensor) -> Tensor:
        """(B, M, W * H, b^2 P) -> the same, without weight in a softmax where a superpixel is not of a pixel's nine.

        Whatever the other scores are: each pixel sees its own superpixel, and each superpixel its own pixels, so that no
        maximum is of hidden scores alone.
        """
        split = scores.unflatten(2, (self.near.window, self.heads))
        return split.masked_fill(self.near.hidden[:, :, None], torch.finfo(scores.dtype).min).flatten(2, 3)


class FoldedSelfAttention(nn.Module):
    """III-C: a block with its queries, keys and values as matrices of their own and no affine norms.

    Args:
        block: as trained.
    """

    def __init__(self, block: SelfAttentionBlock) -> None:
        super().__init__()
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
        q, k, v = (
            layer(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attended = (q @ k.transpose(-1, -2)).softmax(dim=-1) @ v  # (B, H, N, D/H)
        x = x + self.out(attended.transpose(1, 2).flatten(-2))
        return x + self.shrink(F.gelu(self.expand(F.layer_norm(x, x.shape[-1:], eps=self.eps2))))
