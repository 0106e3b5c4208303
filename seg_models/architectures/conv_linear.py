"""The least that a convolutional backbone needs to segment: one linear layer on each of two maps.

image --backbone--> maps at strides 8 and 32 --linear each, the deeper one resized--> sum = class scores --bilinear--> pixels

It is the form that FCN-8s has without its map at stride 16 (Long et al., 2015), and what other decoders are held against.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.backbones.conv import ConvBackbone
from seg_models.losses import cross_entropy
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel, pad_to_stride, upsample_and_crop


class ConvLinear(SegmentationModel):
    """A convolutional backbone and two linear layers.

    Args:
        backbone: maps at two strides.
        num_classes: K.
        image_size: (H, W); other sizes work.

    Raises:
        ValueError: fewer than one class, or a backbone with another number of maps.
    """

    backbone: ConvBackbone
    weighs_classes = True

    def __init__(self, backbone: ConvBackbone, num_classes: int, image_size: tuple[int, int]) -> None:
        super().__init__(num_classes, image_size)
        shallow, deep = check_maps(backbone, 2)
        self.backbone = backbone
        self.normalization = backbone.normalization
        self.stride = backbone.stride
        self.shallow, self.deep = nn.Conv2d(shallow, num_classes, 1), nn.Conv2d(deep, num_classes, 1, bias=False)

    def forward(self, image: Tensor) -> Prediction:
        """Segment a normalised batch (B, 3, H, W), padded as `pad_to_stride` does; the padding is cut off the scores."""
        padded = pad_to_stride(image, self.stride)
        shallow, deep = self.backbone(padded)
        scores = self.shallow(shallow)  # (B, K, H/8, W/8)
        scores = scores + F.interpolate(self.deep(deep), size=scores.shape[-2:], mode="bilinear", align_corners=False)
        return Prediction(upsample_and_crop(scores, padded, image))

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Cross entropy over the labelled pixels."""
        return {"cross_entropy": cross_entropy(prediction.logits, labels, class_weights=self.class_weights)}


def check_maps(backbone: ConvBackbone, count: int) -> tuple[int, ...]:
    """Channels of the backbone's maps.

    Raises:
        ValueError: it gives another number of maps than `count`.
    """
    if len(backbone.channels) != count:
        raise ValueError(f"the backbone gives {len(backbone.channels)} maps; expected {count}")
    return backbone.channels
