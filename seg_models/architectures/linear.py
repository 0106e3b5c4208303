"""The linear baseline that every paper here compares with: one linear layer on the tokens of a vision transformer.

image --transformer--> tokens z_L --linear--> class scores of each token --bilinear--> class scores of each pixel
"""

from __future__ import annotations

from torch import Tensor, nn

from seg_models.backbones.vit import TokenBackbone, tokens_to_map
from seg_models.losses import cross_entropy
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel, pad_to_stride, upsample_and_crop


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
    weighs_classes = True

    def __init__(self, backbone: TokenBackbone, num_classes: int, image_size: tuple[int, int]) -> None:
        super().__init__(num_classes, image_size)
        backbone.set_taps((backbone.depth - 1,))
        self.backbone = backbone
        self.normalization = backbone.normalization
        self.stride = backbone.stride
        self.decoder = LinearDecoder(backbone.width, num_classes)

    def forward(self, image: Tensor) -> Prediction:
        """Segment a normalised batch (B, 3, H, W). Sides that are no multiple of the stride are zero-padded at the
        bottom and right, and the padding is cut off the scores."""
        padded = pad_to_stride(image, self.stride)
        tokens, grid = self.backbone(padded)
        scores = self.decoder(tokens[0], grid)  # (B, K, rows, cols)
        return Prediction(upsample_and_crop(scores, padded, image))

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Cross entropy over the labelled pixels."""
        return {"cross_entropy": cross_entropy(prediction.logits, labels, class_weights=self.class_weights)}
