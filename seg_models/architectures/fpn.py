"""Feature pyramid for segmentation: the semantic branch of Panoptic Feature Pyramid Networks (Kirillov et al., 2019, 3.1).

maps at strides 4, 8, 16, 32 --1x1 conv each, summed from the top down, 3x3 conv--> a pyramid of one width
each level --(3x3 conv, group norm, ReLU, bilinear x2) until stride 4--> sum --1x1 conv--> scores --bilinear--> pixels
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.architectures.conv_linear import check_maps
from seg_models.backbones.conv import ConvBackbone
from seg_models.losses import cross_entropy
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel, pad_to_stride, upsample_and_crop

LEVELS = 4


class FPN(SegmentationModel):
    """A convolutional backbone with a feature pyramid.

    Args:
        backbone: maps at strides 4, 8, 16 and 32.
        num_classes: K.
        image_size: (H, W); other sizes work.
        width: channels of the pyramid (256 in the paper).
        branch_width: channels of the semantic branch (128 in the paper), a multiple of `groups`.
        groups: of its group norms.

    Raises:
        ValueError: fewer than one class, a width that does not fit, or a backbone with another number of maps.
    """

    backbone: ConvBackbone
    weighs_classes = True

    def __init__(
        self,
        backbone: ConvBackbone,
        num_classes: int,
        image_size: tuple[int, int],
        width: int = 256,
        branch_width: int = 128,
        groups: int = 32,
    ) -> None:
        super().__init__(num_classes, image_size)
        if width < 1 or branch_width < 1 or groups < 1 or branch_width % groups:
            raise ValueError(
                f"width {width}, branch_width {branch_width} and groups {groups} do not fit; expected positive numbers, "
                "branch_width a multiple of groups"
            )
        self.backbone = backbone
        self.normalization = backbone.normalization
        self.stride = backbone.stride
        channels = check_maps(backbone, LEVELS)
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        # Level i is at stride 4 * 2^i and passes i blocks, each of which doubles its size; level 0 passes one that does not.
        self.branch = nn.ModuleList(_branch(width, branch_width, groups, level) for level in range(LEVELS))
        self.classifier = nn.Conv2d(branch_width, num_classes, 1)

    def forward(self, image: Tensor) -> Prediction:
        """Segment a normalised batch (B, 3, H, W), padded as `pad_to_stride` does; the padding is cut off the scores."""
        padded = pad_to_stride(image, self.stride)
        maps = [lateral(x) for lateral, x in zip(self.lateral, self.backbone(padded), strict=True)]
        for level in reversed(range(LEVELS - 1)):
            maps[level] = maps[level] + F.interpolate(maps[level + 1], scale_factor=2.0, mode="nearest")
        total: Tensor | None = None
        for x, smooth, branch in zip(maps, self.smooth, self.branch, strict=True):
            x = branch(smooth(x))  # (B, branch_width, H/4, W/4)
            total = x if total is None else total + x
        assert total is not None
        return Prediction(upsample_and_crop(self.classifier(total), padded, image))

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Cross entropy over the labelled pixels."""
        return {"cross_entropy": cross_entropy(prediction.logits, labels, class_weights=self.class_weights)}


def _branch(width: int, branch_width: int, groups: int, level: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for step in range(max(level, 1)):
        channels = width if step == 0 else branch_width
        layers += [
            nn.Conv2d(channels, branch_width, 3, padding=1, bias=False),
            nn.GroupNorm(groups, branch_width),
            nn.ReLU(),
        ]
        if level > 0:
            layers.append(nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)
