"""What BEiT's blocks do otherwise than a plain transformer's: attention with a bias by relative position."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def is_beit(name: str) -> bool:
    """Whether a timm name is a BEiT's."""
    return name.startswith(("beit_", "beitv2_"))


def relative_position_bias(
    table: Tensor, built: tuple[int, int], grid: tuple[int, int], index: Tensor, repeats: int | torch.SymInt = 1
) -> Tensor:
    """BEiT's attention bias for a grid, bicubically resized where it is not the one that the table was built for.

    Args:
        table: ((2 rows - 1)(2 cols - 1) + 3, heads) for the built grid; the last three are to, from and on the class token.
        built: (rows, cols) of the table.
        grid: (rows, cols) of the image at hand.
        index: int64 (1 + N, 1 + N) into the table, of the grid at hand.
        repeats: B, the same bias so many times. An exported graph needs it as often as it has images: what depends on their
            number alone is no constant, which an engine would compute when it loads the file and keep for every layer
            (39 MB a layer for BEiT-B at 480x480, 164 MB for BEiT-L at 640x640, and several times that on the way).

    Returns:
        (B, heads, 1 + N, 1 + N).
    """
    if grid != built:
        table = resize_table(table, built, grid)
    by_head = table.t()[None].expand(repeats, -1, -1)  # (B, heads, entries)
    return by_head.index_select(2, index.flatten()).unflatten(2, tuple(index.shape))


def resize_table(table: Tensor, built: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """A table of relative position biases, bicubically resized from one grid (rows, cols) to another.

    Args:
        table: ((2 rows - 1)(2 cols - 1) + 3, heads) for `built`; the last three, the class token's, stay as they are.
        built: grid of the table.
        grid: wanted grid.
    """
    offsets = table[:-3].t().reshape(1, -1, 2 * built[0] - 1, 2 * built[1] - 1)  # (1, heads, 2 rows - 1, 2 cols - 1)
    target = (2 * grid[0] - 1, 2 * grid[1] - 1)
    offsets = F.interpolate(offsets, size=target, mode="bicubic", align_corners=False)
    return torch.cat([offsets.flatten(2)[0].t(), table[-3:]])


def attend_with_bias(attention: Any, x: Tensor, bias: Tensor) -> Tensor:
    """A BEiT attention layer's (its keys have no bias) output for another bias than its own: (B, N, D) -> (B, N, D)."""
    qkv_bias = None
    if attention.q_bias is not None:
        qkv_bias = torch.cat([attention.q_bias, torch.zeros_like(attention.v_bias), attention.v_bias])
    qkv = F.linear(x, attention.qkv.weight, qkv_bias)  # (B, N, 3 D)
    qkv = qkv.unflatten(2, (3, attention.num_heads, -1))  # (B, N, 3, heads, D / heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, N, D / heads)
    dropout = attention.attn_drop.p if attention.training else 0.0
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), dropout_p=dropout)
    # The copy is for the ONNX exporter: it takes the strides of a masked attention's output for others than they are.
    merged = out.transpose(1, 2).clone(memory_format=torch.contiguous_format).flatten(2)  # (B, N, D)
    return attention.proj_drop(attention.proj(merged))
