"""RSSeg's second pathway (Hong et al., 2022, 3.3): local separation blocks and attention-guided fusion.

    Xl_0 --LSB--> Xl_1 --AF with Xg_1--> Xl'_1 --LSB--> Xl_2 --AF with Xg_2--> ...      (eq. 6-8)

Xg_i are outputs of sampled blocks of the transformer. No code was published; where the text is silent, the choices are
the ones that give Table 4's parameters: two batch norms and ReLU inside a block and a third batch norm before its
residual, the transformer's features pooled before their projection.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from seg_models.architectures.rsseg.operators import local_operator

FUSIONS = ("attention", "add")


class LocalSeparationBlock(nn.Module):
    """LSB, eq. 4: an inverse residual block around the high-pass filters.

    Args:
        width: channels of input and output.
        expand_ratio: hidden channels over `width` (Table 3: 2; 4 for CSWin-T).
        operator: what stands for the high-pass filters (Table 8), see `operators.local_operator`.
    """

    def __init__(self, width: int, expand_ratio: int = 2, operator: str = "high_pass") -> None:
        super().__init__()
        hidden = expand_ratio * width
        self.expand = nn.Sequential(nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU())
        self.high_pass = local_operator(operator, hidden)
        # The affine norm gives back the scale that the softmax takes from the kernels (3.3.1).
        self.rescale = nn.Sequential(nn.BatchNorm2d(hidden), nn.ReLU())
        self.reduce = nn.Sequential(nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) -> (B, D, H, W)."""
        return x + self.reduce(self.rescale(self.high_pass(self.expand(x))))


class AttentionGuidedFusion(nn.Module):
    """AF, eq. 8 and 9: the transformer's features are added to the local ones, which a channel attention weighs.

    Args:
        local_width: D_l, channels of the local features.
        global_width: D_g, channels of the transformer's features.
    """

    def __init__(self, local_width: int, global_width: int) -> None:
        super().__init__()
        both = local_width + global_width
        self.attention = nn.Sequential(  # eq. 9, from the inside out
            nn.BatchNorm2d(both),
            nn.ReLU(),
            nn.Conv2d(both, local_width, 1, bias=False),
            nn.BatchNorm2d(local_width),
            nn.Sigmoid(),
        )
        self.project = nn.Conv2d(global_width, local_width, 1)

    def forward(self, local: Tensor, smooth: Tensor) -> Tensor:
        """Xl (B, D_l, H, W), Xg (B, D_g, h, w) -> Xl' (B, D_l, H, W).

        Raises:
            ValueError: one image while training, and no other process whose images count: batch statistics of 1x1 maps
                need two.
        """
        if self.training and local.shape[0] == 1 and not self.shares_statistics():
            raise ValueError(
                "a batch of 1 image in training; attention-guided fusion normalises 1x1 maps over the batch: "
                "expected at least 2 images (drop the last incomplete batch), or several processes with "
                "trainer.sync_batchnorm"
            )
        pooled = torch.cat([local.mean((2, 3), keepdim=True), smooth.mean((2, 3), keepdim=True)], dim=1)
        # 1x1 convolution and bilinear resize commute; the projection runs where there are fewer values.
        up = F.interpolate(self.project(smooth), size=local.shape[-2:], mode="bilinear", align_corners=False)
        return self.attention(pooled) * local + up  # attention: (B, D_l, 1, 1)

    def shares_statistics(self) -> bool:
        """Whether the batch norms' statistics are those of several processes together."""
        synchronised = all(isinstance(self.attention[i], nn.SyncBatchNorm) for i in (0, 3))
        return synchronised and distributed.is_initialized() and distributed.get_world_size() > 1


class AdditiveFusion(nn.Module):
    """Table 7, the rows without "AF": the transformer's features are projected, enlarged and added.

    Args:
        local_width: D_l, channels of the local features.
        global_width: D_g, channels of the transformer's features.
    """

    def __init__(self, local_width: int, global_width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(global_width, local_width, 1)

    def forward(self, local: Tensor, smooth: Tensor) -> Tensor:
        """Xl (B, D_l, H, W), Xg (B, D_g, h, w) -> Xl' (B, D_l, H, W)."""
        return local + F.interpolate(self.project(smooth), size=local.shape[-2:], mode="bilinear", align_corners=False)


class LocalSeparationPath(nn.Module):
    """The pathway of eq. 6-8.

    Args:
        width: D, channels of the path.
        global_widths: channels of each sampled feature map of the transformer, in order of depth.
        expand_ratio: of the blocks.
        operator: of the blocks, see `LocalSeparationBlock`.
        fusion: "attention" (AF, eq. 8 and 9) or "add" (Table 7, the rows without it).

    Raises:
        ValueError: an unknown operator or fusion.
    """

    def __init__(
        self,
        width: int,
        global_widths: tuple[int, ...],
        expand_ratio: int = 2,
        operator: str = "high_pass",
        fusion: str = "attention",
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion is {fusion!r}; expected one of {', '.join(FUSIONS)}")
        kind = AttentionGuidedFusion if fusion == "attention" else AdditiveFusion
        self.fusions = nn.ModuleList(kind(width, g) for g in global_widths)
        self.blocks = nn.ModuleList(
            LocalSeparationBlock(width, expand_ratio, operator) for _ in range(len(global_widths) + 1)
        )

    def forward(self, x: Tensor, sampled: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Xl_0 (B, D, H, W) and [Xg_i (B, D_i, h_i, w_i)] -> outputs of the last but one and of the last block."""
        before, last = x, self.blocks[0](x)  # eq. 6
        for fusion, block, smooth in zip(self.fusions, self.blocks[1:], sampled, strict=True):  # type: ignore[arg-type]
            before, last = last, block(fusion(last, smooth))  # eq. 8, 7
        return before, last
