"""The Superpixel Transformer folded for inference: the same function of the same weights, equal to rounding.

N = R*C cells, P pixel features a cell, D the model's width, H heads of the cross-attention. Products of matrices may be
taken in any order; what is D x D wide moves from the many pixels to the few superpixels.

    Eq. 3, scores    q_i . (W2 r_p) = (W2^T q_i) . r_p    with r_p = ReLU(W1 (I_p + position)), and W2 the second linear of
                     the pixels' key MLP, cut into heads. r_p is D wide in every head: H times the products of the
                     attention, which are few, in place of a linear on every pixel.
    Eq. 4, scores    the same with the pixels' query MLP and the superpixels' keys.
    Eq. 3, values    sum of w_p W2 r_p = W2 (sum of w_p r_p); then W2 and `superpixel_out` are one matrix a head.
    Eq. 4, values    `pixel_out` is applied to the superpixels' values before they are mixed.
    Eq. 5            I^n . S with I^n = I^0 + sum of w V is I^0 . S + sum of w (V . S): I^n is never formed.

Of the seven linears on pixels in a layer, the three first ones (W1) are left. The first layer's superpixels are learned
constants; so are their queries, keys and values. The affine part of the layer norms before the self-attention goes into
the linears that follow, and their queries, keys and values are three matrices, for which nothing has to be split.
"""

from __future__ import annotations

import copy
from itertools import chain, repeat
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.architectures.superpixel_transformer.learned_grid import resize_grid
from seg_models.ops import neighbourhood as nb
from seg_models.prediction import Prediction
from seg_models.segmentation_model import AssociationModel, pad_to_stride

if TYPE_CHECKING:
    from seg_models.architectures.superpixel_transformer.model import (
        LocalDualPathCrossAttention,
        SelfAttentionBlock,
        SuperpixelTransformer,
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

        scale = (layer.pixel_out.weight.shape[0] / heads) ** -0.5
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
    """III-C: a block with its queries, keys and values as matrices of their own and no affine norms."""

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


class DeployedSuperpixelTransformer(AssociationModel):
    """A Superpixel Transformer for inference at its `image_size`; attributes as there.

    Args:
        model: the trained model. Its weights are copied as they are now.
    """

    @torch.no_grad()
    def __init__(self, model: SuperpixelTransformer) -> None:
        super().__init__(model.num_classes, model.image_size)
        self.normalization, self.stride = model.normalization, model.stride
        self.superpixel_grid, self.cell, self.feature_cell = model.superpixel_grid, model.cell, model.feature_cell
        self.backbone, self.hypercolumn = copy.deepcopy(model.backbone), copy.deepcopy(model.hypercolumn)
        rows, cols = model.superpixel_grid
        self.size = (rows * self.feature_cell[0], cols * self.feature_cell[1])
        self.near = Neighbours(self.superpixel_grid, model.queries)
        self.queries: Tensor
        self.pixel_position: Tensor
        self.register_buffer("queries", model.queries.detach().flatten(2).mT.clone())  # (1, N, D)
        self.register_buffer("pixel_position", model.pixel_position.detach().clone())
        position = resize_grid(model.superpixel_position, self.superpixel_grid).flatten(2).transpose(1, 2)
        self.cross_attention = nn.ModuleList(
            FoldedCrossAttention(cast("LocalDualPathCrossAttention", layer), self.near, position, constant)
            for layer, constant in zip(model.cross_attention, chain([self.queries], repeat(None)), strict=False)
        )
        self.self_attention = nn.ModuleList(
            FoldedSelfAttention(cast("SelfAttentionBlock", block)) for block in model.self_attention
        )
        self.classifier = copy.deepcopy(model.classifier)
        self.eval().requires_grad_(False)

    def associate_features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As the base class.

        Raises:
            ValueError: an image of another size than `image_size`.
        """
        if tuple(image.shape[-2:]) != self.image_size:
            raise ValueError(
                f"image of {image.shape[-2]}x{image.shape[-1]}; the deployed form takes {self.image_size[0]}x"
                f"{self.image_size[1]} only, the trained model any size"
            )
        stages = self.backbone(pad_to_stride(image, self.stride))
        initial = self.cells(self.hypercolumn(stages, self.size))  # I^0, (B, N, P, D)
        pixels = initial + self.cells(resize_grid(self.pixel_position, self.size))
        superpixels = self.queries
        updates: list[tuple[Tensor, Tensor]] = []
        for layer in self.cross_attention:
            if updates:
                pixels = pixels + updates[-1][0].transpose(-1, -2) @ updates[-1][1]
            superpixels, weights, values = layer(superpixels, pixels)
            updates.append((weights, values))
        tokens = superpixels
        for block in self.self_attention:
            tokens = block(tokens)
        # Eq. 5 of I^n = I^0 + all updates; none is formed, as `values` meet the superpixels first.
        near = self.near.of_cells(superpixels * superpixels.shape[-1] ** -0.5)  # (B, N, 9, D)
        logits = near @ initial.transpose(-1, -2)  # (B, N, 9, P)
        for weights, values in updates:
            logits = logits + (near @ values.transpose(-1, -2)) @ weights
        logits = logits.masked_fill(self.near.outside, nb.BORDER).transpose(-1, -2)
        scores = self.classifier(tokens)
        return logits.unflatten(1, self.superpixel_grid), scores.unflatten(1, self.superpixel_grid)

    def cells(self, features: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, N, P, D). The channels go last first: what a convolution leaves in memory is often so already."""
        h, w = self.feature_cell
        rows, cols = self.superpixel_grid
        channels = features.shape[1]
        blocks = features.permute(0, 2, 3, 1).reshape(-1, rows, h, cols, w * channels)
        return blocks.transpose(2, 3).reshape(-1, rows * cols, h * w, channels)

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Raises RuntimeError: the folded weights are not those that are trained."""
        raise RuntimeError("the deployed form has no loss; train the SuperpixelTransformer it was made from")
