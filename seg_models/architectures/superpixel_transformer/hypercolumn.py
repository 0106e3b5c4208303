"""III-A of the Superpixel Transformer: a backbone's stages as pixel features of one resolution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

HYPERCOLUMNS = ("linear", "mlp")


class Hypercolumn(nn.Module):
    """III-A: one projection a stage, resized to the stride of the pixel features and added.

    A 1x1 convolution and a bilinear resize are both linear and act on different axes, so they commute: each stage is
    resized where it has fewer values, before the projection when shrinking and after it when growing. An MLP does not
    commute; it sees each stage at its own resolution.

    Args:
        channels: C_i of the stages.
        width: D.
        form: "linear" or "mlp", see `SuperpixelTransformer`.
    """

    def __init__(self, channels: tuple[int, ...], width: int, form: str = "linear") -> None:
        super().__init__()
        self.commutes = form == "linear"
        self.project = nn.ModuleList(stage_projection(c, width, form) for c in channels)

    def forward(self, stages: list[Tensor], size: tuple[int, int]) -> Tensor:
        """[(B, C_i, H_i, W_i)] -> (B, D, h, w) with (h, w) = `size`."""
        total = None
        for project, stage in zip(self.project, stages, strict=True):
            if self.commutes and stage.shape[-2] > size[0]:
                stage = F.interpolate(stage, size=size, mode="bilinear", align_corners=False)
            x = project(stage)
            if x.shape[-2:] != size:
                x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
            total = x if total is None else total + x
        assert total is not None
        return total


def stage_projection(channels: int, width: int, form: str) -> nn.Module:
    """One linear layer a pixel, or two with a ReLU between them, as 1x1 convolutions without biases."""
    first = nn.Conv2d(channels, width, 1, bias=False)
    return first if form == "linear" else nn.Sequential(first, nn.ReLU(), nn.Conv2d(width, width, 1, bias=False))
