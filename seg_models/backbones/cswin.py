"""CSWin Transformer (Dong et al., CVPR 2022) as feature maps: self-attention inside cross-shaped windows.

    image --7x7 convolution, stride 4--> stage 1 --3x3, stride 2--> stage 2 --> stage 3 --> stage 4     (Figure 2)
    block: x + attention(LN(x)), x + MLP(LN(x))
    attention: half of the heads look along vertical stripes, the other half along horizontal ones       (3.2)
               LePE: a depth-wise 3x3 convolution of the values is added inside each stripe              (3.3)
               the last stage attends to the whole map

timm has no CSWin. Parameters carry the names of the released files; like the released segmentation backbone, this one
pads maps that stripes do not divide with zeros, evenly on both sides and without masking them, and puts a LayerNorm
behind each stage.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seg_models.backbones.timm_models import BackboneError
from seg_models.normalization import Normalization

DIRECTIONS = ("vertical", "horizontal", "global")


@dataclass(frozen=True)
class CSWinShape:
    """A row of CSWin's Table 1.

    Attributes:
        width: C, channels of stage 1; they double at each later stage.
        depths: blocks of each stage.
        heads: attention heads of each stage.
        stripes: sw, width of the stripes of stages 1 to 3 in tokens.
    """

    width: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    stripes: tuple[int, int, int] = (1, 2, 7)


CSWIN_SHAPES = {
    "cswin_tiny": CSWinShape(64, (1, 2, 21, 1), (2, 4, 8, 16)),
    "cswin_small": CSWinShape(64, (2, 4, 32, 2), (2, 4, 8, 16)),
    "cswin_base": CSWinShape(96, (2, 4, 32, 2), (4, 8, 16, 32)),
    "cswin_large": CSWinShape(144, (2, 4, 32, 2), (6, 12, 24, 24)),
}


class StripeAttention(nn.Module):
    """Self-attention inside stripes of one direction, with locally-enhanced positional encoding (LePE, 3.3).

    Args:
        width: channels of this share of the heads.
        heads: their number.
        direction: "vertical" (stripes as high as the map), "horizontal" (as wide) or "global" (one window).
        stripe: tokens across a stripe.
    """

    def __init__(self, width: int, heads: int, direction: str, stripe: int) -> None:
        super().__init__()
        self.heads, self.direction, self.stripe = heads, direction, stripe
        self.get_v = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def window(self, height: int, width: int) -> tuple[int, int]:
        """(rows, cols) of a window in a map of this size."""
        rows = self.stripe if self.direction == "horizontal" else height
        cols = self.stripe if self.direction == "vertical" else width
        return rows, cols

    def forward(self, qkv: Tensor) -> Tensor:
        """Queries, keys and values (B, H, W, 3, C) -> (B, H, W, C)."""
        batch, height, width, _, channels = qkv.shape
        rows, cols = self.window(height, width)
        down, right = -height % rows, -width % cols
        top, left = down // 2, right // 2
        x = F.pad(qkv, (0, 0, 0, 0, left, right - left, top, down - top))  # (B, H', W', 3, C)
        m, n = x.shape[1] // rows, x.shape[2] // cols
        x = x.reshape(batch, m, rows, n, cols, 3, self.heads, channels // self.heads)
        x = x.permute(5, 0, 1, 3, 6, 2, 4, 7)  # (3, B, m, n, heads, rows, cols, C / heads)
        x = x.reshape(3, batch * m * n, self.heads, rows * cols, channels // self.heads)
        q, k, v = x.unbind(0)  # each (B m n, heads, rows cols, C / heads)
        values = v.transpose(2, 3).reshape(-1, channels, rows, cols)  # (B m n, C, rows, cols)
        position = self.get_v(values).reshape(-1, self.heads, channels // self.heads, rows * cols)
        x = F.scaled_dot_product_attention(q, k, v) + position.transpose(2, 3)  # (B m n, heads, rows cols, C / heads)
        x = x.reshape(batch, m, n, self.heads, rows, cols, channels // self.heads)
        x = x.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, m * rows, n * cols, channels)  # (B, H', W', C)
        return x[:, top : top + height, left : left + width]


class FeedForward(nn.Module):
    """The block's two-layer MLP."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.fc2(F.gelu(self.fc1(x)))


class CSWinBlock(nn.Module):
    """One block (3.4): stripes of both directions at once, or the whole map in the last stage."""

    def __init__(self, width: int, heads: int, stripe: int, drop_path: float, is_global: bool) -> None:
        super().__init__()
        directions = DIRECTIONS[2:] if is_global else DIRECTIONS[:2]
        self.qkv = nn.Linear(width, 3 * width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attns = nn.ModuleList(
            StripeAttention(width // len(directions), heads // len(directions), direction, stripe)
            for direction in directions
        )
        self.proj = nn.Linear(width, width)
        self.mlp = FeedForward(width, 4 * width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, -1))  # (B, H, W, 3, C)
        shares = qkv.chunk(len(self.attns), dim=-1)  # each direction has its half of the channels
        attended = torch.cat([attend(share) for attend, share in zip(self.attns, shares, strict=True)], dim=-1)
        x = x + self.drop_path(self.proj(attended))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Merge(nn.Module):
    """Between stages: half the resolution, twice the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H/2, W/2, 2 C)."""
        return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class CSWinBackbone(nn.Module):
    """A CSWin Transformer that gives the outputs of chosen blocks.

    Args:
        name: one of CSWIN_SHAPES.
        taps: blocks to return, counted from 0 through all stages; None gives the last block of each stage.
        drop_path_rate: stochastic depth of the last block; linear from 0 at the first.
        gradient_checkpointing: recompute each block in the backward pass instead of keeping its activations.
        pretrained: True is refused: no installed package ships weights.
        shape: another shape than the name's, such as the stripes (1, 2, 12) of the files for 384 pixels.

    Attributes:
        channels: C, 2 C, 4 C, 8 C, of the stages.
        stage_of: the stage, 0 to 3, of each block.
        stage_ends: number of the last block of each stage.
        stride: 32.

    Raises:
        BackboneError: unknown name (the known ones are listed), `pretrained`, a block that does not exist.
    """

    stride = 32
    normalization: Normalization

    def __init__(
        self,
        name: str,
        taps: tuple[int, ...] | None = None,
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
        pretrained: bool = False,
        shape: CSWinShape | None = None,
    ) -> None:
        super().__init__()
        if name not in CSWIN_SHAPES:
            near = difflib.get_close_matches(name, CSWIN_SHAPES, n=4, cutoff=0.3) or CSWIN_SHAPES
            raise BackboneError(f"unknown backbone {name!r}; near names: {', '.join(near)}")
        if pretrained:
            raise BackboneError(
                f"no installed package ships weights for {name}; use pretrained: false and load a released file"
            )
        shape = shape or CSWIN_SHAPES[name]
        self.name, self.shape = name, shape
        self.gradient_checkpointing = gradient_checkpointing
        self.normalization = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}  # ImageNet's
        self.channels = tuple(shape.width * 2**i for i in range(4))
        self.stage_of = tuple(stage for stage, depth in enumerate(shape.depths) for _ in range(depth))
        self.stage_ends = tuple(sum(shape.depths[: i + 1]) - 1 for i in range(4))
        self.depth = sum(shape.depths)
        self.set_taps(self.stage_ends if taps is None else taps)

        # The released files number the LayerNorm as 2; what stands between moves the channels last.
        self.stage1_conv_embed = nn.Sequential(
            nn.Conv2d(3, shape.width, 7, stride=4, padding=2), ChannelsLast(), nn.LayerNorm(shape.width)
        )
        rates = [drop_path_rate * i / max(self.depth - 1, 1) for i in range(self.depth)]
        stripes = (*shape.stripes, 0)
        blocks = [
            CSWinBlock(self.channels[stage], shape.heads[stage], stripes[stage], rate, is_global=stage == 3)
            for stage, rate in zip(self.stage_of, rates, strict=True)
        ]
        ends = [end + 1 for end in self.stage_ends]
        self.stage1 = nn.ModuleList(blocks[: ends[0]])
        self.stage2 = nn.ModuleList(blocks[ends[0] : ends[1]])
        self.stage3 = nn.ModuleList(blocks[ends[1] : ends[2]])
        self.stage4 = nn.ModuleList(blocks[ends[2] :])
        self.merge1, self.merge2, self.merge3 = (Merge(c) for c in self.channels[:3])
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(c) for c in self.channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def set_taps(self, taps: tuple[int, ...]) -> None:
        """Choose the blocks whose outputs `forward` returns; BackboneError for one that does not exist."""
        for tap in taps:
            if not 0 <= tap < self.depth:
                raise BackboneError(f"tap {tap} of {self.name}: its blocks are 0 to {self.depth - 1}")
        self.taps = taps

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised (B, 3, H, W) -> for each tap, in order, (B, C_s, H / 2^(s+2), W / 2^(s+2)) with its stage s.

        The last block of a stage is given behind the stage's LayerNorm, the others as they are.

        Raises:
            ValueError: H or W is no multiple of 32; models pad before they call.
        """
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % 32 or image.shape[3] % 32:
            raise ValueError(
                f"image of shape {tuple(image.shape)}; expected (B, 3, H, W) with H and W multiples of {self.stride}"
            )
        x = self.stage1_conv_embed(image)  # (B, H/4, W/4, C)
        stages = (self.stage1, self.stage2, self.stage3, self.stage4)
        merges = (nn.Identity(), self.merge1, self.merge2, self.merge3)
        outputs: dict[int, Tensor] = {}
        for blocks, merge, norm in zip(stages, merges, (self.norm1, self.norm2, self.norm3, self.norm4), strict=True):
            x = merge(x)
            for block in blocks:
                if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                    x = checkpoint(block, x, use_reentrant=False)  # type: ignore[assignment]
                else:
                    x = block(x)
                outputs[len(outputs)] = x
            outputs[len(outputs) - 1] = norm(x)
        return [outputs[tap].permute(0, 3, 1, 2) for tap in self.taps]


class ChannelsLast(nn.Module):
    """(B, C, H, W) -> (B, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Move the channels to the end."""
        return x.permute(0, 2, 3, 1)
