"""The convolutional decoders that Segmenter compares its mask transformer with (Strudel et al., 2021, appendix B, Table 11).

    tokens --1x1--> --4x bilinear--> two 3x3 --1x1--> class scores                         CNN
    tokens --1x1--> --4x bilinear--> [, low layer's tokens] --two 3x3--> --1x1-->           FA-CNN, "identical to DeepLab V3+"

All convolutions but the last have 256 units, a BatchNorm and a ReLU. Two of 3x3, and 48 channels of the low layer as in
DeepLab V3+, give Table 11's 1.4 and 1.6 million parameters. No code was published for either.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.backbones.vit import tokens_to_map

WIDTH = 256
UPSAMPLING = 4
LOW_WIDTH = 48  # DeepLab V3+'s


def unit(channels: int, width: int, kernel_size: int) -> nn.Sequential:
    """A convolution with a BatchNorm and a ReLU."""
    convolution = nn.Conv2d(channels, width, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())


class CnnDecoder(nn.Module):
    """Either of the two.

    Args:
        width: of the tokens.
        num_classes: K.
        low: also takes the tokens of a low layer (FA-CNN).
    """

    def __init__(self, width: int, num_classes: int, low: bool = False) -> None:
        super().__init__()
        self.first = unit(width, WIDTH, 1)
        self.low = unit(width, LOW_WIDTH, 1) if low else None
        joined = WIDTH + (LOW_WIDTH if low else 0)
        self.block = nn.Sequential(unit(joined, WIDTH, 3), unit(WIDTH, WIDTH, 3))
        self.classify = nn.Conv2d(WIDTH, num_classes, 1)

    def forward(self, taps: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """Tokens of the last layer, before them those of the low one if there is any, each (B, rows * cols, D).

        Returns:
            (B, K, 4 rows, 4 cols).
        """
        size = (grid[0] * UPSAMPLING, grid[1] * UPSAMPLING)
        x = enlarge(self.first(tokens_to_map(taps[-1], grid)), size)  # (B, 256, 4 rows, 4 cols)
        if self.low is not None:
            x = torch.cat([x, enlarge(self.low(tokens_to_map(taps[0], grid)), size)], dim=1)
        return self.classify(self.block(x))


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of (B, C, h, w) to a size."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
