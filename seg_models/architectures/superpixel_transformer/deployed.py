"""The Superpixel Transformer folded for inference: the same function of the same weights, equal to rounding.

N = R*C cells, P pixel features a cell, D the model's width, H heads of the cross-attention; M blocks of b x b cells, b^2 P
pixel features and a window of W superpixels each (see `Neighbours`). Products of matrices may be taken in any order; what is
D x D wide moves from the many pixels to the few superpixels.

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
from torch import Tensor, nn

from seg_models.architectures.superpixel_transformer.folded_layers import (
    FoldedCrossAttention,
    FoldedSelfAttention,
    Neighbours,
)
from seg_models.architectures.superpixel_transformer.learned_grid import resize_grid
from seg_models.losses import top_fraction_cross_entropy
from seg_models.ops import neighbourhood as nb
from seg_models.prediction import Prediction
from seg_models.segmentation_model import AssociationModel, pad_to_stride

if TYPE_CHECKING:
    from seg_models.architectures.superpixel_transformer.model import (
        LocalDualPathCrossAttention,
        SelfAttentionBlock,
        SuperpixelTransformer,
    )


class PixelFeatures(nn.Module):
    """III-A: the backbone's stages -> I^0 and I^0 + position in blocks of cells, each (B, M, b^2 P, D)."""

    def __init__(self, model: SuperpixelTransformer, near: Neighbours) -> None:
        super().__init__()
        self.hypercolumn = copy.deepcopy(model.hypercolumn)
        self.blocks, self.block = near.blocks, near.block
        self.size = (self.blocks[0] * self.block[0], self.blocks[1] * self.block[1])  # of all pixel features
        self.position: Tensor
        self.register_buffer("position", model.pixel_position.detach().clone())  # at its own, small size

    def forward(self, stages: list[Tensor]) -> tuple[Tensor, Tensor]:
        features = self.in_blocks(self.hypercolumn(stages, self.size))
        return features, features + self.in_blocks(resize_grid(self.position, self.size))

    def in_blocks(self, features: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, M, b^2 P, D). Channels go last first: what a convolution leaves in memory is often so already."""
        (rows, cols), (h, w), channels = self.blocks, self.block, features.shape[1]
        blocks = features.permute(0, 2, 3, 1).reshape(-1, rows, h, cols, w * channels)
        return blocks.transpose(2, 3).reshape(-1, rows * cols, h * w, channels)


class Association(nn.Module):
    """Eq. 5 before its softmax, of I^n = I^0 + the sum of weights^T values; the sum is not formed, as values meet S^n first.

    Args:
        near: of the superpixels' grid.
        gain: what scores are multiplied with beyond 1/sqrt(D).
    """

    def __init__(self, near: Neighbours, gain: float = 1.0) -> None:
        super().__init__()
        self.near, self.gain = near, gain

    def forward(self, features: Tensor, superpixels: Tensor, updates: list[tuple[Tensor, Tensor]]) -> Tensor:
        """
        Args:
            features: I^0, (B, M, b^2 P, D).
            superpixels: S^n, (B, N, D).
            updates: of each layer, see `FoldedCrossAttention`.

        Returns:
            (B, N, P, 9), BORDER outside the grid.
        """
        near = self.near.of_blocks(superpixels * (self.gain * superpixels.shape[-1] ** -0.5))  # (B, M, W, D)
        logits = near @ features.transpose(-1, -2)  # (B, M, W, b^2 P)
        for weights, values in updates:
            logits = logits + (near @ values.transpose(-1, -2)) @ weights
        return self.near.of_pixels(logits)


class DeployedSuperpixelTransformer(AssociationModel):
    """A Superpixel Transformer for inference at its `image_size`; attributes as there.

    Args:
        model: the trained model. Its weights are copied as they are now.
    """

    weighs_classes = True

    @torch.no_grad()
    def __init__(self, model: SuperpixelTransformer) -> None:
        super().__init__(model.num_classes, model.image_size)
        self.normalization, self.stride = model.normalization, model.stride
        self.superpixel_grid, self.cell, self.feature_cell = model.superpixel_grid, model.cell, model.feature_cell
        self.near = Neighbours(self.superpixel_grid, self.feature_cell, model.queries.device)
        self.backbone, self.hypercolumn = copy.deepcopy(model.backbone), PixelFeatures(model, self.near)
        self.queries: Tensor
        self.register_buffer("queries", model.queries.detach().flatten(2).mT.clone())  # (1, N, D)
        position = resize_grid(model.superpixel_position, self.superpixel_grid).flatten(2).transpose(1, 2)
        self.cross_attention = nn.ModuleList(
            FoldedCrossAttention(cast("LocalDualPathCrossAttention", layer), self.near, position, constant)
            for layer, constant in zip(model.cross_attention, chain([self.queries], repeat(None)), strict=False)
        )
        self.self_attention_pool = model.self_attention_pool
        self.self_attention = nn.ModuleList(
            FoldedSelfAttention(cast("SelfAttentionBlock", block)) for block in model.self_attention
        )
        self.hard_pixel_fraction = model.hard_pixel_fraction
        self.association, self.classifier = Association(self.near, model.score_gain), copy.deepcopy(model.classifier)
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
        features, pixels = self.hypercolumn(self.backbone(pad_to_stride(image, self.stride)))  # (B, M, b^2 P, D)
        superpixels = self.queries
        updates: list[tuple[Tensor, Tensor]] = []
        for layer in self.cross_attention:
            if updates:
                pixels = pixels + updates[-1][0].transpose(-1, -2) @ updates[-1][1]
            superpixels, weights, values = layer(superpixels, pixels)
            updates.append((weights, values))
        tokens = superpixels if updates else superpixels.expand(features.shape[0], -1, -1)
        tokens = nb.among_means(self.self_attention, tokens, self.superpixel_grid, self.self_attention_pool)
        logits, scores = self.association(features, superpixels, updates), self.classifier(tokens)
        return logits.unflatten(1, self.superpixel_grid), scores.unflatten(1, self.superpixel_grid)

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """As the trained model's, for fine-tuning in 8 bits (`seg_models/quantization.py`); of all pixels' scores."""
        share, weights = self.hard_pixel_fraction, self.class_weights
        return {"cross_entropy": top_fraction_cross_entropy(prediction.logits, labels, share, weights)}
