"""Superpixel Transformers for Efficient Semantic Segmentation (Zhu et al., 2023), equations cited by number.

    image --backbone--> features at strides 2, 8, 32 --hypercolumn--> pixel features I at stride 8   (III-A)
    learned queries S^0 + I --n dual-path local cross-attentions--> S, I                             (III-B, eq. 3-4)
    S --k self-attention blocks, linear--> class scores C of each superpixel                         (III-C)
    association Q = softmax(I . S) upsampled, Y = sum Q C, argmax Q                                  (III-D, eq. 5-7)

No code was published. Where the text is silent, the choices here are the ones that reproduce every published parameter
count (Tables I and III): all linear layers of the decoder but the classifier are free of biases, the cross-attentions
have no normalisation layers, and the classifier follows the last residual directly.

Layout: pixel features stay cut into cells, (B, R, C, P, D), from the hypercolumn to the painting; see
`ops/neighbourhood.py` for the symbols.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.architectures.superpixel_transformer.deployed import DeployedSuperpixelTransformer
from seg_models.architectures.superpixel_transformer.hypercolumn import HYPERCOLUMNS, Hypercolumn
from seg_models.architectures.superpixel_transformer.learned_grid import resize_grid
from seg_models.backbones.conv import ConvBackbone
from seg_models.losses import top_fraction_cross_entropy
from seg_models.ops import neighbourhood as nb
from seg_models.prediction import Prediction
from seg_models.segmentation_model import AssociationModel, pad_to_stride


def mlp(width: int) -> nn.Sequential:
    """The 2-layer MLP that makes a query, key or value."""
    return nn.Sequential(nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, width, bias=False))


class LocalDualPathCrossAttention(nn.Module):
    """Eq. 3 and 4: superpixels and pixels update each other inside the 3x3 neighbourhood, both from step t-1.

    Args:
        width: D.
        heads: H.
        scale_scores: divide scores by sqrt(D / H), see `SuperpixelTransformer`.
    """

    def __init__(self, width: int, heads: int, scale_scores: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.score_gain = score_gain(width // heads, scale_scores)
        self.superpixel_query, self.superpixel_key, self.superpixel_value = mlp(width), mlp(width), mlp(width)
        self.pixel_query, self.pixel_key, self.pixel_value = mlp(width), mlp(width), mlp(width)
        self.superpixel_out = nn.Linear(width, width, bias=False)
        self.pixel_out = nn.Linear(width, width, bias=False)

    def forward(
        self, superpixels: Tensor, pixels: Tensor, superpixel_position: Tensor, pixel_position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """S^{t-1} (B, R, C, D), I^{t-1} (B, R, C, P, D), embeddings of the same shapes -> S^t, I^t."""
        s = superpixels + superpixel_position
        p = pixels + pixel_position
        superpixel_update = nb.attend_superpixels_to_pixels(
            self.superpixel_query(s) * self.score_gain, self.pixel_key(p), self.pixel_value(p), self.heads
        )
        pixel_update = nb.attend_pixels_to_superpixels(
            self.pixel_query(p), self.superpixel_key(s) * self.score_gain, self.superpixel_value(s), self.heads
        )
        return superpixels + self.superpixel_out(superpixel_update), pixels + self.pixel_out(pixel_update)


def score_gain(width: int, scale_scores: bool) -> float:
    """What scores are multiplied with beyond the operations' 1/sqrt(width): 1, or sqrt(width), which takes it back."""
    return 1.0 if scale_scores else width**0.5


class SelfAttentionBlock(nn.Module):
    """III-C: one pre-norm block of global self-attention between superpixels and a two-layer feed-forward.

    Args:
        width, heads, hidden: D, H and the hidden width of the feed-forward.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, width, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        batch, count, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, count, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, D/H)
        attended = F.scaled_dot_product_attention(q, k, v)  # (B, H, N, D/H)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, count, width))
        return x + self.feed_forward(self.norm2(x))


class SuperpixelTransformer(AssociationModel):
    """The whole model. Input is a normalised image; `normalization` says how.

    Args:
        backbone: feature maps at strides 2, 8 and 32 (ConvNeXt: 4, 8, 32).
        num_classes: K.
        image_size: (H, W) that the learned grids are made for. Other sizes work: the superpixel grid keeps its stride
            and the learned queries and position embeddings are resized bilinearly.
        superpixel_stride: pixels of the image along a superpixel's cell. In the paper 32 on Cityscapes (Table III also 16
            and 64), 16 on ADE20K (40x40 superpixels of a 640x640 crop).
        pixel_stride: of the pixel features, a divisor of `superpixel_stride`. In the paper 8 on Cityscapes ("bilinear
            resizing to stride 8"), 4 on ADE20K (160x160 features of a 640x640 crop).
        width: D, channels of pixel and superpixel features (256, IV-A).
        cross_attention_layers: n (2, IV-A and Table III).
        cross_attention_heads: 2 (IV-A).
        self_attention_layers: k (4, IV-A).
        self_attention_heads: 4 (IV-A).
        feed_forward_width: hidden width of the self-attention blocks.
        hard_pixel_fraction: share of each image's pixels that the loss counts (0.2, IV-A).
        loss_stride: in training, paint and score every so many pixels along each side alone; a divisor of
            `superpixel_stride`. Painting and scoring all pixels is a third of a training step on a small backbone; neighbours
            teach nearly the same.
        hypercolumn: how a stage becomes 256 channels. "linear": one 1x1 convolution. "mlp": two with a ReLU, each stage at its
            own resolution. The text says "a MLP" (III-A, IV-A), without its depth; Tables I to III do not decide: both
            round to their six parameter counts, and where "mlp" meets ADE20K's printed cost (Table II), it overshoots
            that of Cityscapes by 6 %, which "linear" stays 12 % below. The default is the cheaper one, and commutes with the
            resizing: 223 instead of 268 G for ResNet-50 at 1024x2048.
        self_attention_pool: self-attention is among the means of so many superpixels along each side, and each superpixel gets
            what its mean has gained. 1: among the superpixels, as in the paper. Not the paper's: four times the superpixels
            make four times the linear layers and sixteen times the softmaxes, which then cost more than all the rest.
        scale_scores: divide the scores of eq. 3, 4 and 5 by the root of their channels, as attention does elsewhere; they
            are printed without. The default keeps the softmaxes from being one-hot at the start of a training.

    Raises:
        ValueError: a stride, width, share, form or image size that does not fit.
    """

    weighs_classes = True

    def __init__(
        self,
        backbone: ConvBackbone,
        num_classes: int,
        image_size: tuple[int, int],
        superpixel_stride: int = 32,
        pixel_stride: int = 8,
        width: int = 256,
        cross_attention_layers: int = 2,
        cross_attention_heads: int = 2,
        self_attention_layers: int = 4,
        self_attention_heads: int = 4,
        feed_forward_width: int = 512,
        hard_pixel_fraction: float = 0.2,
        loss_stride: int = 1,
        hypercolumn: str = "linear",
        scale_scores: bool = True,
        self_attention_pool: int = 1,
    ) -> None:
        super().__init__(num_classes, image_size)
        if hypercolumn not in HYPERCOLUMNS:
            raise ValueError(f"hypercolumn is {hypercolumn!r}; expected one of {', '.join(HYPERCOLUMNS)}")
        if pixel_stride < 1:
            raise ValueError(f"pixel_stride is {pixel_stride}; expected at least 1")
        if superpixel_stride % pixel_stride or superpixel_stride <= 0:
            raise ValueError(
                f"superpixel_stride is {superpixel_stride}; it must be a positive multiple of {pixel_stride}, the pixel_stride"
            )
        if loss_stride < 1 or superpixel_stride % loss_stride:
            raise ValueError(
                f"loss_stride is {loss_stride}; expected a divisor of the superpixel_stride, {superpixel_stride}"
            )
        if not 0 < hard_pixel_fraction <= 1:
            raise ValueError(f"hard_pixel_fraction is {hard_pixel_fraction}; expected a number in (0, 1]")
        if width % cross_attention_heads or width % self_attention_heads:
            raise ValueError(
                f"width {width} must be a multiple of both head counts, {cross_attention_heads} and {self_attention_heads}"
            )
        self.backbone = backbone
        self.normalization = backbone.normalization
        self.superpixel_stride = superpixel_stride
        self.pixel_stride = pixel_stride
        self.stride = max(backbone.stride, superpixel_stride)
        if self.stride % superpixel_stride or self.stride % backbone.stride:
            raise ValueError(
                f"superpixel_stride {superpixel_stride} does not fit the backbone's stride {backbone.stride}"
            )
        # Grids of any image are whole multiples of this, as images are padded to `stride`.
        if self_attention_pool < 1 or self.stride // superpixel_stride % self_attention_pool:
            raise ValueError(
                f"self_attention_pool is {self_attention_pool}; expected a divisor of {self.stride // superpixel_stride}, the "
                f"superpixels of stride {superpixel_stride} along the model's stride of {self.stride}"
            )
        height, width_px = (-(-side // self.stride) * self.stride for side in image_size)
        rows, cols = height // superpixel_stride, width_px // superpixel_stride
        self.hypercolumn = Hypercolumn(backbone.channels, width, hypercolumn)
        # S^0, one learned query a cell; position embeddings at a quarter of each feature's resolution, one pair for
        # all layers (IV-A), zero at the start so that training begins position-free.
        self.queries = nn.Parameter(torch.randn(1, width, rows, cols) * 0.02)
        self.superpixel_position = nn.Parameter(torch.zeros(1, width, max(rows // 4, 1), max(cols // 4, 1)))
        self.pixel_position = nn.Parameter(
            torch.zeros(1, width, max(height // pixel_stride // 4, 1), max(width_px // pixel_stride // 4, 1))
        )
        self.cross_attention = nn.ModuleList(
            LocalDualPathCrossAttention(width, cross_attention_heads, scale_scores)
            for _ in range(cross_attention_layers)
        )
        self.score_gain = score_gain(width, scale_scores)  # of eq. 5
        self.self_attention_pool = self_attention_pool
        self.self_attention = nn.ModuleList(
            SelfAttentionBlock(width, self_attention_heads, feed_forward_width) for _ in range(self_attention_layers)
        )
        self.classifier = nn.Linear(width, num_classes)
        self.superpixel_grid = (rows, cols)
        self.cell = (superpixel_stride, superpixel_stride)  # of image pixels
        self.feature_cell = (superpixel_stride // pixel_stride,) * 2  # of pixel features
        self.hard_pixel_fraction = hard_pixel_fraction
        self.loss_stride = loss_stride

    def forward(self, image: Tensor) -> Prediction:
        """As the base class; in training mode with a `loss_stride` n the logits are (B, K, ceil(H/n), ceil(W/n))."""
        if self.training and self.loss_stride > 1:
            return Prediction(self.paint_sparsely(image), None)
        return super().forward(image)

    def paint_sparsely(self, image: Tensor) -> Tensor:
        """Scores in the middle of each square of `loss_stride` pixels: (B, K, ceil(H/n), ceil(W/n))."""
        logits, class_logits = self.associate_features(image)
        cell = (self.cell[0] // self.loss_stride, self.cell[1] // self.loss_stride)
        scores = nb.paint(nb.association(nb.upsample_in_cells(logits, self.feature_cell, cell)), class_logits, cell)
        return scores[..., : -(-image.shape[-2] // self.loss_stride), : -(-image.shape[-1] // self.loss_stride)]

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """As the base class; of labels (B, H, W), every `loss_stride`-th along each side counts."""
        if prediction.logits.shape[-2:] != labels.shape[-2:]:
            labels = labels[..., :: self.loss_stride, :: self.loss_stride]
        return super().loss(prediction, labels)

    def associate_features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """III-A to III-D up to the softmax of eq. 5; an image of any size, padded here to whole cells."""
        pixels, superpixels = self.tokenize(pad_to_stride(image, self.stride))
        return nb.association_logits(pixels, superpixels * self.score_gain), self.classify(superpixels)

    def deployed(self) -> DeployedSuperpixelTransformer:
        """As the base class: with everything folded that does not depend on the image, see `deployed`."""
        return DeployedSuperpixelTransformer(self)

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """IV-A: softmax cross entropy over the hardest 20 % of the pixels of each image."""
        share, weights = self.hard_pixel_fraction, self.class_weights
        return {"cross_entropy": top_fraction_cross_entropy(prediction.logits, labels, share, weights)}

    def tokenize(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """III-A and III-B: (B, 3, H, W) -> pixel features (B, R, C, P, D) and superpixel features (B, R, C, D)."""
        size = (image.shape[-2] // self.pixel_stride, image.shape[-1] // self.pixel_stride)
        grid = (image.shape[-2] // self.superpixel_stride, image.shape[-1] // self.superpixel_stride)
        pixels = nb.to_cells(self.hypercolumn(self.backbone(image), size), self.feature_cell)  # (B, R, C, P, D)
        pixel_position = nb.to_cells(resize_grid(self.pixel_position, size), self.feature_cell)
        superpixel_position = resize_grid(self.superpixel_position, grid).permute(0, 2, 3, 1)
        superpixels = resize_grid(self.queries, grid).permute(0, 2, 3, 1)  # (1, R, C, D)
        superpixels = superpixels.expand(image.shape[0], -1, -1, -1)
        for layer in self.cross_attention:
            superpixels, pixels = layer(superpixels, pixels, superpixel_position, pixel_position)
        return pixels, superpixels

    def classify(self, superpixels: Tensor) -> Tensor:
        """III-C: (B, R, C, D) -> class scores C_i, (B, R, C, K)."""
        grid = (superpixels.shape[1], superpixels.shape[2])
        x = nb.among_means(self.self_attention, superpixels.flatten(1, 2), grid, self.self_attention_pool)  # (B, N, D)
        return self.classifier(x).unflatten(1, grid)
