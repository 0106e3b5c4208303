"""The local operators of RSSeg's separation blocks (Hong et al., 2022): OP_local of eq. 4, and what Table 8 holds beside it.

Each is depth-wise: Table 7's cost grows by 2.4 G where nine LHFs of 5x5 replace what is there before, which is nine times 16
taps at 1/4 of 1024x1024 with 256 channels: before, they were 3x3 and depth-wise, the row "3x3 convolutions" of Table 8.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGE_KERNEL = 15  # the best of Peng et al. (2017), which Table 8 refers to; RSSeg does not print its own
DILATIONS = (1, 2, 4)  # RSSeg prints none; powers of two are usual


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


def depthwise(width: int, rows: int, cols: int, dilation: int = 1) -> nn.Conv2d:
    """A plain depth-wise convolution of rows x cols taps that keeps the size of its map."""
    padding = (dilation * (rows // 2), dilation * (cols // 2))
    return nn.Conv2d(width, width, (rows, cols), padding=padding, dilation=dilation, groups=width, bias=False)


class LargeKernel(nn.Module):
    """Table 8, "depth-wise large-kernel convolutions": k x 1 behind 1 x k, and 1 x k behind k x 1, added (Peng et al., 2017).

    Args:
        width: channels.
        kernel_size: k.
    """

    def __init__(self, width: int, kernel_size: int = LARGE_KERNEL) -> None:
        super().__init__()
        self.down_across = nn.Sequential(depthwise(width, kernel_size, 1), depthwise(width, 1, kernel_size))
        self.across_down = nn.Sequential(depthwise(width, 1, kernel_size), depthwise(width, kernel_size, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) -> (B, D, H, W)."""
        return self.down_across(x) + self.across_down(x)


class MultiDilation(nn.Module):
    """Table 8, "multi-dilation convolutions" (Pang et al., 2019): 3x3 convolutions of several dilations, added.

    Args:
        width: channels.
        dilations: of the convolutions.
    """

    def __init__(self, width: int, dilations: tuple[int, ...] = DILATIONS) -> None:
        super().__init__()
        self.branches = nn.ModuleList(depthwise(width, 3, 3, dilation) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) -> (B, D, H, W)."""
        total = self.branches[0](x)
        for branch in self.branches[1:]:
            total = total + branch(x)
        return total


LOCAL_OPERATORS = ("high_pass", "convolution", "large_kernel", "multi_dilation")


def local_operator(name: str, width: int) -> nn.Module:
    """OP_local of eq. 4 for maps of `width` channels.

    Args:
        name: "high_pass" (LHF of 5x5, the paper's), or of Table 8 "convolution" (3x3), "large_kernel", "multi_dilation".
        width: channels.

    Raises:
        ValueError: another name.
    """
    if name == "high_pass":
        return LearnableHighPassFilter(width)
    if name == "convolution":
        return depthwise(width, 3, 3)
    if name == "large_kernel":
        return LargeKernel(width)
    if name == "multi_dilation":
        return MultiDilation(width)
    raise ValueError(f"local_operator is {name!r}; expected one of {', '.join(LOCAL_OPERATORS)}")
