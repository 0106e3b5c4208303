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

from seg_models.architectures.rsseg.boundary import BOUNDARY_TARGETS, boundary_loss
from seg_models.architectures.rsseg.pathway import LocalSeparationPath
from seg_models.backbones.cswin import CSWinBackbone
from seg_models.losses import cross_entropy
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
        boundary_weight: of the boundary loss (eq. 17: 0.4); with 0 there is none (Table 7, the rows without "edge loss").
        boundary_target: "classes", pixels beside one of another class, or "laplacian", STDC's, which the text refers to. The
            default has no boundary where labels end or the image does, and both of its sides alike.
        pathway: False leaves out the local path, and stage 1 stands for it: CSWin under the two-layer MLP, the baseline of
            Tables 1 and 7. Two layers on the joined maps, not SegFormer's layer for each map and one on all of them: that
            alone would cost 154 G, more than Table 7 has for the whole model.
        local_operator: of the local separation blocks, "high_pass" or one of Table 8's; see `operators.py`.
        fusion: of the path, "attention" or "add" (Table 7, the rows without "AF").

    Raises:
        ValueError: an interval that does not divide the blocks of stage 3, or an unknown form.
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
        boundary_target: str = "classes",
        pathway: bool = True,
        local_operator: str = "high_pass",
        fusion: str = "attention",
    ) -> None:
        super().__init__(num_classes, image_size)
        if boundary_target not in BOUNDARY_TARGETS:
            raise ValueError(f"boundary_target is {boundary_target!r}; expected one of {', '.join(BOUNDARY_TARGETS)}")
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
        self.boundary_target = boundary_target
        self.has_pathway = pathway

        channels = backbone.channels
        if pathway:
            self.reduce = nn.Identity() if local_width == channels[0] else nn.Conv2d(channels[0], local_width, 1)
            sampled_widths = tuple(channels[backbone.stage_of[block]] for block in sampled)
            self.path = LocalSeparationPath(local_width, sampled_widths, expand_ratio, local_operator, fusion)
        local_width = local_width if pathway else channels[0]
        widths = (local_width, *channels[1:])
        # The first layer of the MLP in a share for each map: a sum of products is the product with the concatenation.
        self.fuse = nn.ModuleList(nn.Conv2d(c, hidden_width, 1, bias=i == 0) for i, c in enumerate(widths))
        self.classify = nn.Conv2d(hidden_width, num_classes, 1)
        self.boundary = nn.Conv2d(local_width, 1, 1) if boundary_weight else None

    def forward(self, image: Tensor) -> Prediction:
        """Segment a batch.

        Args:
            image: float (B, 3, H, W), normalised. Sides that are no multiple of 32 are zero-padded at the bottom and
                right, and the padding is cut off the scores.

        Returns:
            Prediction with logits (B, K, H, W) and, where there is a boundary loss, aux `boundary` (B, 1, H, W), scores
            before the sigmoid.

        Raises:
            ValueError: a batch of one image in training.
        """
        padded = pad_to_stride(image, self.stride)
        stage1, *sampled, stage4 = self.backbone(padded)
        local = self.path(self.reduce(stage1), sampled)[1] if self.has_pathway else stage1  # (B, D_l, H/4, W/4)
        hidden = None
        for fuse, x in zip(self.fuse, (local, sampled[0], sampled[-1], stage4), strict=True):
            # 1x1 convolution and bilinear resize commute.
            share = F.interpolate(fuse(x), size=local.shape[-2:], mode="bilinear", align_corners=False)
            hidden = share if hidden is None else hidden + share  # (B, 768, H/4, W/4)
        assert hidden is not None
        scores = self.classify(F.relu(hidden))  # (B, K, H/4, W/4)
        aux = {}
        if self.boundary is not None:
            aux["boundary"] = upsample_and_crop(self.boundary(local), padded, image)
        return Prediction(upsample_and_crop(scores, padded, image), aux=aux)

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Eq. 17. Labels int64 (B, H, W)."""
        terms = {"cross_entropy": cross_entropy(prediction.logits, labels)}
        if self.boundary is not None:
            loss = boundary_loss(prediction.aux["boundary"], labels, self.boundary_target)
            terms["boundary"] = self.boundary_weight * loss
        return terms
