"""SegViT's Shrunk form (3.2, "The Shrunk structure", Figure 3): a quarter of the tokens in two thirds of the encoder.

    image --blocks at 1/16--> shallow tap --QD--> blocks at 1/32 --> deep tap
    learned queries at 1/16 --QU: shallow tap, then deep tap--> tokens at 1/16 --ATM--> class scores, masks

QD, query-based down-sampling, is an attention layer whose queries are fewer than its keys and values: the number of tokens
is the number of queries. QU, query-based up-sampling, is the same the other way round. Without QU the ATM reads the deep tap
("naive Shrunk", Figure 3 b). With QU all three layers of the ATM are supervised and their masks are not summed, as
released.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from seg_models.architectures.segvit.atm import AtmDecoder, Grid, QueryUpsampling
from seg_models.architectures.segvit.model import AtmModel, decoder_shape
from seg_models.backbones.beit import is_beit
from seg_models.backbones.timm_models import BackboneError
from seg_models.backbones.vit import TokenBackbone, tokens_to_map

DOWN_SAMPLING = ("query_nearest", "query_conv", "all_nearest")


class ShrunkBackbone(TokenBackbone):
    """A plain ViT, one of whose blocks quarters the number of tokens.

    Taps from that block on have the grid `shrunk_grid(grid)`.

    Args:
        name, image_size: see `TokenBackbone`; BEiTs and hybrids are refused.
        shrink_at: block with the QD, from 0; None takes a third of the depth (8 for L, as released), but 6 of 12 blocks:
            Table 8's costs of ViT-B are met there and at no other block.
        down_sampling: how (Table 7). "query_nearest": the queries are every second token of every second row; "all_nearest":
            keys and values, too; "query_conv": the queries are a learned 2x2 convolution of stride 2.
        further: other arguments of `TokenBackbone`, by name.

    Raises:
        BackboneError: a backbone without plain attention, or no such block.
        ValueError: an unknown way of down-sampling, or a class token in the encoder.
    """

    def __init__(
        self,
        name: str,
        image_size: tuple[int, int],
        shrink_at: int | None = None,
        down_sampling: str = "query_nearest",
        **further: Any,
    ) -> None:
        if down_sampling not in DOWN_SAMPLING:
            raise ValueError(f"down_sampling is {down_sampling!r}; expected one of {', '.join(DOWN_SAMPLING)}")
        if further.get("keep_class_token_in_encoder", False):
            raise ValueError(
                "a class token has no place on the grid that is down-sampled; remove it before the encoder"
            )
        super().__init__(name, image_size, **further | {"keep_class_token_in_encoder": False})
        if is_beit(name) or self.is_hybrid:
            raise BackboneError(f"{name} cannot shrink; expected a plain ViT or DeiT such as vit_large_patch16_384")
        self.shrink_at = shrink_block(self.depth) if shrink_at is None else shrink_at
        if not 1 <= self.shrink_at < self.depth:
            raise BackboneError(f"shrink_at is {self.shrink_at}; expected a block from 1 to {self.depth - 1} of {name}")
        self.down_sampling = down_sampling
        self.down: nn.Module = (
            nn.Conv2d(self.width, self.width, 2, stride=2) if down_sampling == "query_conv" else nn.Identity()
        )

    def run_block(self, number: int, x: Tensor, grid: Grid, index: Tensor | None = None) -> Tensor:
        """One block. `grid` is the image's; the block `shrink_at` turns (B, N, D) into (B, about N / 4, D)."""
        if number != self.shrink_at:
            return super().run_block(number, x, grid, index)
        plane = tokens_to_map(x, grid)  # (B, D, rows, cols)
        if self.down_sampling == "query_conv":
            fewer = self.down(F.pad(plane, (0, grid[1] % 2, 0, grid[0] % 2)))
        else:
            fewer = plane[..., ::2, ::2]
        queries = fewer.flatten(2).transpose(1, 2)  # (B, N', D)
        if self.down_sampling == "all_nearest":
            return super().run_block(number, queries, grid, index)
        block: Any = self.vit.blocks[number]
        attended = attend(block.attn, block.norm1(queries), block.norm1(x))
        x = queries + block.drop_path1(block.ls1(attended))
        return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def shrink_block(depth: int) -> int:
    """The block, from 0, in which the papers' encoders of a depth shrink."""
    return 6 if depth == 12 else depth // 3


def shrunk_grid(grid: Grid) -> Grid:
    """(rows, cols) behind the QD."""
    return (grid[0] + 1) // 2, (grid[1] + 1) // 2


def attend(attention: Attention, queries: Tensor, memory: Tensor) -> Tensor:
    """A plain ViT's self-attention with other tokens for queries (B, Q, D) than for keys and values (B, N, D): (B, Q, D)."""
    width = queries.shape[-1]
    weight, bias = attention.qkv.weight, attention.qkv.bias
    q = F.linear(queries, weight[:width], bias[:width])  # (B, Q, D)
    k, v = F.linear(memory, weight[width:], bias[width:]).chunk(2, dim=-1)  # (B, N, D) each
    q, k, v = (x.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, heads, ., D / heads)
    dropout = attention.attn_drop.p if attention.training else 0.0
    out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)  # (B, heads, Q, D / heads)
    return attention.proj_drop(attention.proj(out.transpose(1, 2).flatten(2)))


class SegViTShrunk(AtmModel):
    """Shrunk SegViT.

    Args:
        backbone: its taps are set here: the last block before the QD, and the last of all.
        num_classes: K.
        image_size: (H, W), see `AtmModel`; the queries of the QU are made for it and resized for other sizes.
        query_upsampling: False leaves the QU out ("naive Shrunk").
        decoder_width: D; None takes half of the encoder's.
        decoder_heads: None gives 32 channels a head.
        decoder_layers: of the ATM and of each of the two stages of the QU.
        decoder_dropout: 0.1 as released.
        loss_form, class_weight, focal_weight, dice_weight, no_object_weight: see `AtmModel`.

    Raises:
        ValueError: heads that do not divide the width, a bad loss form.
    """

    backbone: ShrunkBackbone

    def __init__(
        self,
        backbone: ShrunkBackbone,
        num_classes: int,
        image_size: tuple[int, int],
        query_upsampling: bool = True,
        decoder_width: int | None = None,
        decoder_heads: int | None = None,
        decoder_layers: int = 3,
        decoder_dropout: float = 0.1,
        loss_form: str = "mask",
        class_weight: float = 1.0,
        focal_weight: float = 20.0,
        dice_weight: float = 1.0,
        no_object_weight: float = 0.1,
    ) -> None:
        weights = (class_weight, focal_weight, dice_weight, no_object_weight)
        # Twice the patch: every token behind the QD then stands for four before it.
        super().__init__(backbone, num_classes, image_size, 2 * backbone.stride, loss_form, *weights)
        last = backbone.depth - 1
        backbone.set_taps((backbone.shrink_at - 1, last) if query_upsampling else (last,))
        width, heads = decoder_shape(backbone.width, decoder_width, decoder_heads)
        shape = (width, heads, decoder_layers, decoder_dropout)
        grid = self.mask_size[0] // backbone.stride, self.mask_size[1] // backbone.stride
        self.upsampling = QueryUpsampling(backbone.width, 2, grid, *shape) if query_upsampling else None
        taps = (None,) if query_upsampling else (backbone.width,)
        self.decoder = AtmDecoder(taps, num_classes, *shape, every_layer=query_upsampling)

    def stages(self, image: Tensor) -> tuple[list[Tensor], list[Grid]]:
        """One tap: the QU's tokens at 1/16, or the deep tap at 1/32."""
        taps, grid = self.backbone(image)
        if self.upsampling is None:
            return taps, [shrunk_grid(grid)]
        return [self.upsampling(taps, grid)], [grid]
