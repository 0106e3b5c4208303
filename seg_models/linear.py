"""The linear baseline that every paper here compares with: one linear layer on the tokens of a vision transformer.

image --transformer--> tokens z_L --linear--> class scores of each token --bilinear--> class scores of each pixel
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.losses import cross_entropy
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel
from seg_models.vit_backbone import TokenBackbone, tokens_to_map


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


class LinearBaseline(SegmentationModel):
    """A transformer and a linear layer.

    Args:
        backbone: any TokenBackbone; its last block is read.
        num_classes: K.
        image_size: (H, W) that the position embeddings are made for.

    Raises:
        ValueError: fewer than one class.
    """

    backbone: TokenBackbone

    def __init__(self, backbone: TokenBackbone, num_classes: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        check_num_classes(num_classes)
        backbone.set_taps((backbone.depth - 1,))
        self.backbone = backbone
        self.normalization = backbone.normalization
        self.num_classes = num_classes
        self.image_size = image_size
        self.stride = backbone.stride
        self.decoder = LinearDecoder(backbone.width, num_classes)

    def forward(self, image: Tensor) -> Prediction:
        """Segment a normalised batch (B, 3, H, W). Sides that are no multiple of the stride are zero-padded at the
        bottom and right, and the padding is cut off the scores."""
        padded = pad_to_stride(image, self.stride)
        tokens, grid = self.backbone(padded)
        scores = self.decoder(tokens[0], grid)  # (B, K, rows, cols)
        return Prediction(upsample_and_crop(scores, padded, image))

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Cross entropy over the labelled pixels."""
        return {"cross_entropy": cross_entropy(prediction.logits, labels)}


def check_num_classes(num_classes: int) -> None:
    """Raise ValueError for fewer than one class."""
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; expected at least 1")


def pad_to_stride(image: Tensor, stride: int) -> Tensor:
    """Zero-pad (B, 3, H, W) at the bottom and right to multiples of the stride."""
    return F.pad(image, (0, -image.shape[-1] % stride, 0, -image.shape[-2] % stride))


def upsample_and_crop(scores: Tensor, padded: Tensor, image: Tensor) -> Tensor:
    """Bilinear resize of scores (B, K, h, w) to the padded image, then cut to the image: (B, K, H, W)."""
    full = F.interpolate(scores, size=padded.shape[-2:], mode="bilinear", align_corners=False)
    return full[..., : image.shape[-2], : image.shape[-1]]
