"""RSSeg's pyramid form (Hong et al., 2022, 3.2.1, Figure 4 b): the local separation path on a CSWin Transformer.

    image --CSWin--> stage 1 --(1x1)--> Xl_0; outputs of stage 2 and of evenly sampled blocks of stage 3: Xg_i
    Xl_0, Xg_i --LSBs with AF--> local map at 1/4                                   (3.3, rsseg_pathway.py)
    [local map, stages 2, 3, 4] upsampled to 1/4 --two-layer MLP--> class scores    (3.2.1)
    local map --1x1--> boundary, in the loss alone                                  (eq. 17)

No code was published. A hidden width of 768 in the two-layer MLP gives Table 9's parameters. What Table 3 calls CSWin-B,
with the depths 2, 4, 32, 2, is CSWin-S in Table 9.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.architectures.rsseg.pathway import LocalSeparationPath
from seg_models.backbones.cswin import CSWinBackbone
from seg_models.losses import IGNORE, cross_entropy
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel, pad_to_stride, upsample_and_crop


class RSSegPyramid(SegmentationModel):
    """The whole model on a CSWin Transformer. Input is a normalised image; `normalization` says how.

    Args:
        backbone: a CSWin Transformer.
        num_classes: K.
        image_size: (H, W) of the network's input; nothing in the model depends on it.
        interval: blocks of stage 3 from one sample to the next; None takes Table 3's, 4 for 32 blocks and else 3.
        local_width: channels of the path; None takes Table 3's, 128 for CSWin-S and else those of stage 1.
        expand_ratio: of the local separation blocks; None takes Table 3's, 2 for CSWin-S and else 4.
        hidden_width: of the two-layer MLP.
        boundary_weight: of the boundary loss (eq. 17: 0.4).

    Raises:
        ValueError: an interval that does not divide the blocks of stage 3.
    """

    backbone: CSWinBackbone

    def __init__(
        self,
        backbone: CSWinBackbone,
        num_classes: int,
        image_size: tuple[int, int],
        interval: int | None = None,
        local_width: int | None = None,
        expand_ratio: int | None = None,
        hidden_width: int = 768,
        boundary_weight: float = 0.4,
    ) -> None:
        super().__init__(num_classes, image_size)
        is_small = backbone.name == "cswin_small"
        blocks = backbone.shape.depths[2]
        if interval is None:
            interval = 4 if blocks % 4 == 0 else 3
        if interval < 1 or blocks % interval:
            raise ValueError(f"interval is {interval}; expected a divisor of the {blocks} blocks of stage 3")
        local_width = local_width or (128 if is_small else backbone.channels[0])
        expand_ratio = expand_ratio or (2 if is_small else 4)
        ends = backbone.stage_ends
        sampled = (ends[1], *range(ends[1] + interval, ends[2] + 1, interval))
        backbone.set_taps((ends[0], *sampled, ends[3]))
        self.backbone = backbone
        self.normalization = backbone.normalization
        self.stride = backbone.stride
        self.boundary_weight = boundary_weight

        channels = backbone.channels
        self.reduce = nn.Identity() if local_width == channels[0] else nn.Conv2d(channels[0], local_width, 1)
        self.path = LocalSeparationPath(
            local_width, tuple(channels[backbone.stage_of[block]] for block in sampled), expand_ratio
        )
        widths = (local_width, *channels[1:])
        # The first layer of the MLP in a share for each map: a sum of products is the product with the concatenation.
        self.fuse = nn.ModuleList(nn.Conv2d(c, hidden_width, 1, bias=i == 0) for i, c in enumerate(widths))
        self.classify = nn.Conv2d(hidden_width, num_classes, 1)
        self.boundary = nn.Conv2d(local_width, 1, 1)

    def forward(self, image: Tensor) -> Prediction:
        """Segment a batch.

        Args:
            image: float (B, 3, H, W), normalised. Sides that are no multiple of 32 are zero-padded at the bottom and
                right, and the padding is cut off the scores.

        Returns:
            Prediction with logits (B, K, H, W) and aux `boundary` (B, 1, H, W), scores before the sigmoid.

        Raises:
            ValueError: a batch of one image in training.
        """
        padded = pad_to_stride(image, self.stride)
        stage1, *sampled, stage4 = self.backbone(padded)
        _, local = self.path(self.reduce(stage1), sampled)  # (B, D_l, H/4, W/4)
        hidden = None
        for fuse, x in zip(self.fuse, (local, sampled[0], sampled[-1], stage4), strict=True):
            # 1x1 convolution and bilinear resize commute.
            share = F.interpolate(fuse(x), size=local.shape[-2:], mode="bilinear", align_corners=False)
            hidden = share if hidden is None else hidden + share  # (B, 768, H/4, W/4)
        assert hidden is not None
        scores = self.classify(F.relu(hidden))  # (B, K, H/4, W/4)
        boundary = upsample_and_crop(self.boundary(local), padded, image)
        return Prediction(upsample_and_crop(scores, padded, image), aux={"boundary": boundary})

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Eq. 17. Labels int64 (B, H, W)."""
        return {
            "cross_entropy": cross_entropy(prediction.logits, labels),
            "boundary": self.boundary_weight * boundary_loss(prediction.aux["boundary"], labels),
        }


def boundaries(labels: Tensor) -> Tensor:
    """Pixels whose 3x3 neighbourhood holds another class: int64 (B, H, W) -> bool (B, H, W).

    Pixels without a label are no boundary and make none.
    """
    unknown = labels == IGNORE
    values = labels.float()[:, None]  # (B, 1, H, W); class numbers below 2^24 are exact
    top = F.max_pool2d(values.masked_fill(unknown[:, None], -1.0), 3, stride=1, padding=1)
    bottom = -F.max_pool2d(-values.masked_fill(unknown[:, None], 1e6), 3, stride=1, padding=1)
    return ((top > bottom) & ~unknown[:, None])[:, 0]


def boundary_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy plus dice, the loss that 3.6 adopts from STDC (Fan et al., 2021), over the labelled pixels.

    STDC takes a class map's Laplacian at strides 1, 2 and 4 for boundaries; here they are `boundaries`, at stride 1.

    Args:
        scores: (B, 1, H, W), before the sigmoid.
        labels: int64 (B, H, W) with IGNORE.

    Returns:
        scalar; 0 (with a gradient of 0) for a batch without any labelled pixel.
    """
    target = boundaries(labels).float().flatten(1)  # (B, H W)
    known = (labels != IGNORE).float().flatten(1)
    flat = scores.float().flatten(1)
    entropy = F.binary_cross_entropy_with_logits(flat, target, weight=known, reduction="sum") / known.sum().clamp(min=1)
    probability = flat.sigmoid() * known
    overlap = (probability * target).sum(1)  # (B,)
    dice = 1 - (2 * overlap + 1) / (probability.square().sum(1) + target.sum(1) + 1)  # (B,)
    has_label = (known.sum(1) > 0).float()
    return entropy + (dice * has_label).sum() / has_label.sum().clamp(min=1)
