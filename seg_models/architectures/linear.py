"""The linear baseline that every paper here compares with: one linear layer on the tokens of a vision transformer.

image --transformer--> tokens z_L --linear--> class scores of each token --bilinear--> class scores of each pixel

With a `hidden_width` it is SETR's naive head, SegViT's baseline (Tables 4 and 8); with `upsampling="nearest"` it classifies
patches, as the baseline of RegProxy's Table 1 does "without the bilinear upsampling of the final logits map".
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.backbones.vit import TokenBackbone, tokens_to_map
from seg_models.losses import cross_entropy
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel, pad_to_stride, upsample_and_crop

UPSAMPLINGS = ("bilinear", "nearest")


class LinearDecoder(nn.Module):
    """Segmenter 3.2, "Linear": a point-wise layer from tokens to class scores, z_lin."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, rows * cols, D) -> (B, K, rows, cols)."""
        return tokens_to_map(self.head(tokens), grid)


class NaiveDecoder(nn.Module):
    """SETR's naive head (Zheng et al., 2021): two 1x1 convolutions with a BatchNorm and a ReLU between them.

    Args:
        width: of the tokens.
        hidden_width: between the two.
        num_classes: K.
    """

    def __init__(self, width: int, hidden_width: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, hidden_width, 1, bias=False),
            nn.BatchNorm2d(hidden_width),
            nn.ReLU(),
            nn.Conv2d(hidden_width, num_classes, 1),
        )

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, rows * cols, D) -> (B, K, rows, cols)."""
        return self.layers(tokens_to_map(tokens, grid))


class LinearBaseline(SegmentationModel):
    """A transformer and a linear layer.

    Args:
        backbone: any TokenBackbone; its last block is read.
        num_classes: K.
        image_size: (H, W) that the position embeddings are made for.
        hidden_width: None for one layer; the width between two (SETR's naive head). 256 gives the 107.3 G of SegViT's Table 8
            on ViT-B at 512x512.
        upsampling: from the tokens' grid to the image, "bilinear", or "nearest": a patch's scores are those of all its pixels
            (RegProxy, Table 1). The cross entropy over pixels is then that of eq. 1's soft labels over patches.

    Raises:
        ValueError: fewer than one class, a width below 1 or an unknown upsampling.
    """

    backbone: TokenBackbone
    weighs_classes = True

    def __init__(
        self,
        backbone: TokenBackbone,
        num_classes: int,
        image_size: tuple[int, int],
        hidden_width: int | None = None,
        upsampling: str = "bilinear",
    ) -> None:
        super().__init__(num_classes, image_size)
        if hidden_width is not None and hidden_width < 1:
            raise ValueError(f"hidden_width is {hidden_width}; expected at least 1, or none for one layer")
        if upsampling not in UPSAMPLINGS:
            raise ValueError(f"upsampling is {upsampling!r}; expected one of {', '.join(UPSAMPLINGS)}")
        backbone.set_taps((backbone.depth - 1,))
        self.backbone = backbone
        self.normalization = backbone.normalization
        self.stride = backbone.stride
        self.upsampling = upsampling
        self.decoder: LinearDecoder | NaiveDecoder = (
            LinearDecoder(backbone.width, num_classes)
            if hidden_width is None
            else NaiveDecoder(backbone.width, hidden_width, num_classes)
        )

    def forward(self, image: Tensor) -> Prediction:
        """Segment a normalised batch (B, 3, H, W). Sides that are no multiple of the stride are zero-padded at the
        bottom and right, and the padding is cut off the scores."""
        padded = pad_to_stride(image, self.stride)
        tokens, grid = self.backbone(padded)
        scores = self.decoder(tokens[0], grid)  # (B, K, rows, cols)
        if self.upsampling == "nearest":
            full = F.interpolate(scores, size=padded.shape[-2:], mode="nearest")  # (B, K, H, W), padded
            return Prediction(full[..., : image.shape[-2], : image.shape[-1]])
        return Prediction(upsample_and_crop(scores, padded, image))

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Cross entropy over the labelled pixels."""
        return {"cross_entropy": cross_entropy(prediction.logits, labels, class_weights=self.class_weights)}
