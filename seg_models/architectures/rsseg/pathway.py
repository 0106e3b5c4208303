"""RSSeg's second pathway (Hong et al., 2022, 3.3): local separation blocks and attention-guided fusion.

    Xl_0 --LSB--> Xl_1 --AF with Xg_1--> Xl'_1 --LSB--> Xl_2 --AF with Xg_2--> ...      (eq. 6-8)

Xg_i are outputs of sampled blocks of the transformer. No code was published; where the text is silent, the choices are
the ones that give Table 4's parameters: two batch norms and ReLU inside a block and a third batch norm before its
residual, the transformer's features pooled before their projection.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LearnableHighPassFilter(nn.Module):
    """LHF, eq. 5: a depth-wise convolution whose kernels sum to zero, whatever its weights are.

    Args:
        width: channels.
        kernel_size: taps along a side; 5 in the paper.
    """

    def __init__(self, width: int, kernel_size: int = 5) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        # A spread of 1 makes kernels that differ: equal weights would give the kernel zero.
        self.weight = nn.Parameter(torch.randn(width, 1, kernel_size, kernel_size))

    def kernel(self) -> Tensor:
        """Eq. 5: softmax over the taps minus their mean, (D, 1, k, k)."""
        taps = self.weight.flatten(2).softmax(dim=2) - 1.0 / self.kernel_size**2  # (D, 1, k^2)
        return taps.view_as(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) -> (B, D, H, W)."""
        return F.conv2d(x, self.kernel(), padding=self.kernel_size // 2, groups=x.shape[1])


class LocalSeparationBlock(nn.Module):
    """LSB, eq. 4: an inverse residual block around the high-pass filters.

    Args:
        width: channels of input and output.
        expand_ratio: hidden channels over `width` (Table 3: 2; 4 for CSWin-T).
    """

    def __init__(self, width: int, expand_ratio: int = 2) -> None:
        super().__init__()
        hidden = expand_ratio * width
        self.expand = nn.Sequential(nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU())
        self.high_pass = LearnableHighPassFilter(hidden)
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
            ValueError: one image while training: batch statistics of 1x1 maps need two.
        """
        if self.training and local.shape[0] == 1:
            raise ValueError(
                "a batch of 1 image in training; attention-guided fusion normalises 1x1 maps over the batch: "
                "expected at least 2 images (drop the last incomplete batch)"
            )
        pooled = torch.cat([local.mean((2, 3), keepdim=True), smooth.mean((2, 3), keepdim=True)], dim=1)
        # 1x1 convolution and bilinear resize commute; the projection runs where there are fewer values.
        up = F.interpolate(self.project(smooth), size=local.shape[-2:], mode="bilinear", align_corners=False)
        return self.attention(pooled) * local + up  # attention: (B, D_l, 1, 1)


class LocalSeparationPath(nn.Module):
    """The pathway of eq. 6-8.

    Args:
        width: D, channels of the path.
        global_widths: channels of each sampled feature map of the transformer, in order of depth.
        expand_ratio: of the blocks.
    """

    def __init__(self, width: int, global_widths: tuple[int, ...], expand_ratio: int = 2) -> None:
        super().__init__()
        self.fusions = nn.ModuleList(AttentionGuidedFusion(width, g) for g in global_widths)
        self.blocks = nn.ModuleList(LocalSeparationBlock(width, expand_ratio) for _ in range(len(global_widths) + 1))

    def forward(self, x: Tensor, sampled: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Xl_0 (B, D, H, W) and [Xg_i (B, D_i, h_i, w_i)] -> outputs of the last but one and of the last block."""
        before, last = x, self.blocks[0](x)  # eq. 6
        for fusion, block, smooth in zip(self.fusions, self.blocks[1:], sampled, strict=True):  # type: ignore[arg-type]
            before, last = last, block(fusion(last, smooth))  # eq. 8, 7
        return before, last
