"""Lite Reduced Atrous Spatial Pyramid Pooling, the head of MobileNetV3 for segmentation (Howard et al., 2019, 6.4).

    deepest map --1x1 conv, norm, ReLU--> x,    deepest map --global mean, 1x1 conv, sigmoid--> g
    x * g --bilinear--> stride 8 --1x1 conv--> scores,    map at stride 8 --1x1 conv--> scores,    sum --bilinear--> pixels

The paper keeps the deepest map at stride 16 with dilated convolutions and averages over large windows of it; here the
backbone stays as it is (stride 32), and the mean is over the whole image, as torchvision has it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.architectures.conv_linear import check_maps
from seg_models.backbones.conv import ConvBackbone
from seg_models.losses import cross_entropy
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel, pad_to_stride, upsample_and_crop


class LRASPP(SegmentationModel):
    """A convolutional backbone with the Lite R-ASPP head.

    Args:
        backbone: maps at strides 8 and 32.
        num_classes: K.
        image_size: (H, W); other sizes work.
        width: channels between the head's layers (128 in the paper's figure 10).

    Raises:
        ValueError: fewer than one class or channel, or a backbone with another number of maps.
    """

    backbone: ConvBackbone
    weighs_classes = True

    def __init__(self, backbone: ConvBackbone, num_classes: int, image_size: tuple[int, int], width: int = 128) -> None:
        super().__init__(num_classes, image_size)
        if width < 1:
            raise ValueError(f"width is {width}; expected at least 1")
        shallow, deep = check_maps(backbone, 2)
        self.backbone = backbone
        self.normalization = backbone.normalization
        self.stride = backbone.stride
        self.reduce = nn.Sequential(nn.Conv2d(deep, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.gate = nn.Conv2d(deep, width, 1, bias=False)
        self.shallow, self.deep = nn.Conv2d(shallow, num_classes, 1), nn.Conv2d(width, num_classes, 1)

    def forward(self, image: Tensor) -> Prediction:
        """Segment a normalised batch (B, 3, H, W), padded as `pad_to_stride` does; the padding is cut off the scores."""
        padded = pad_to_stride(image, self.stride)
        shallow, deep = self.backbone(padded)
        gate = self.gate(deep.mean((2, 3), keepdim=True)).sigmoid()  # (B, width, 1, 1)
        # A 1x1 convolution and the resize commute; scores have fewer channels to resize.
        scores = self.deep(self.reduce(deep) * gate)
        scores = F.interpolate(scores, size=shallow.shape[-2:], mode="bilinear", align_corners=False)
        return Prediction(upsample_and_crop(scores + self.shallow(shallow), padded, image))

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Cross entropy over the labelled pixels."""
        return {"cross_entropy": cross_entropy(prediction.logits, labels, class_weights=self.class_weights)}
