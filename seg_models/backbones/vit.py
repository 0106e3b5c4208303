"""Plain, distilled, hybrid and BEiT vision transformers from timm, as the tokens that a decoder asks for.

timm owns the layers and their parameters; the order in which they run is written out here, because every paper taps it
at other places:

    image --patch embedding (or ResNet stem + 1x1)--> N tokens
    [class (, distillation), tokens] + position embeddings           tap -1
    --block 0--> ... --block L-1--> (final LayerNorm)                taps 0 ... L-1

A tapped block gives the raw residual stream. The final LayerNorm is applied behind the last block alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import HybridEmbed
from timm.models.beit import Beit, gen_relative_position_index
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.compiler import is_exporting
from torch.utils.checkpoint import checkpoint

from seg_models.backbones.beit import attend_with_bias, is_beit, relative_position_bias
from seg_models.backbones.timm_models import (
    BackboneError,
    check_backbone_name,
    create_timm_model,
    normalization_of,
    shipped_weights,
)

POSITION_RESIZE = ("bicubic", "bilinear")


class Tokens(NamedTuple):
    """What a `TokenBackbone` returns.

    Attributes:
        taps: a tensor (B, N, D) for each asked tap, in their order; class and distillation tokens are removed.
        grid: (rows, cols) of the tokens in raster order, rows * cols = N.
    """

    taps: list[Tensor]
    grid: tuple[int, int]

    def maps(self) -> list[Tensor]:
        """The taps as feature maps, each (B, D, rows, cols)."""
        return [tokens_to_map(tap, self.grid) for tap in self.taps]


def tokens_to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, rows * cols, D) -> (B, D, rows, cols)."""
    return tokens.transpose(1, 2).unflatten(2, grid)


def resize_tokens(tokens: Tensor, built: tuple[int, int], grid: tuple[int, int], mode: str = "bicubic") -> Tensor:
    """Learned tokens (B, rows * cols, D) of the grid `built` for another grid; the tokens themselves where it is the same."""
    if grid == built:
        return tokens
    resized = F.interpolate(tokens_to_map(tokens, built), size=grid, mode=mode, align_corners=False)  # (B, D, *grid)
    return resized.flatten(2).transpose(1, 2)


class TokenBackbone(nn.Module):
    """A timm vision transformer that gives the outputs of chosen blocks.

    Args:
        name: timm model name, such as vit_base_patch16_384, deit_base_distilled_patch16_384,
            vit_small_r26_s32_384 (hybrid) or beit_base_patch16_224.
        image_size: (H, W) that the position embeddings are made for, rounded up to whole patches. Other sizes work:
            the embeddings are resized for them.
        taps: blocks to return, counted from 0; -1 is the sum of patch and position embeddings, before block 0.
            None gives the last block. A model may ask for others with `set_taps`.
        final_norm: whether the LayerNorm behind the last block exists and is applied (to a tap of that block).
        keep_class_token_in_encoder: False removes class and distillation tokens before block 0. Their parameters stay,
            so that checkpoints fit, but are frozen: no gradient can reach them.
        norm_eps: epsilon of every LayerNorm.
        position_resize: "bicubic" or "bilinear", both without antialiasing. (timm's own resizing has antialiasing and
            gives other numbers when shrinking.)
        drop_path_rate: stochastic depth of the last block; linear from 0 at the first.
        drop_path_on_attention: False drops the feed-forward branch of a block alone, as mmsegmentation's ViT does.
        dropout: of embeddings, attention weights, projections and feed-forward layers.
        patch_size: other patch size than the name's, such as 8; None keeps it.
        gradient_checkpointing: recompute each block in the backward pass instead of keeping its activations.
        pretrained: ImageNet weights of an installed package; none is known for transformers, so True is refused.
        timm_options: further arguments of the timm model, such as {"embed_dim": 24, "depth": 2, "num_heads": 2}.

    Attributes:
        width: D.  depth: L.  stride and patch_size: pixels of the image along a token.
        grid: (rows, cols) of the position embeddings.
        is_hybrid: whether a ResNet stem makes the tokens.
        prefix_tokens: number of class and distillation tokens, 1 or 2.
        normalization: mean and std that timm's weights of this name were trained with, 0..255 units.

    Raises:
        BackboneError: unknown name (near ones are listed), not such a transformer, `pretrained`, bad tap.
        ValueError: unknown `position_resize`.
    """

    vit: Any  # timm's VisionTransformer or Beit; its attributes are typed loosely there

    def __init__(
        self,
        name: str,
        image_size: tuple[int, int],
        taps: tuple[int, ...] | None = None,
        final_norm: bool = True,
        keep_class_token_in_encoder: bool = True,
        norm_eps: float = 1e-6,
        position_resize: str = "bicubic",
        drop_path_rate: float = 0.0,
        drop_path_on_attention: bool = True,
        dropout: float = 0.0,
        patch_size: int | None = None,
        gradient_checkpointing: bool = False,
        pretrained: bool = False,
        timm_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if position_resize not in POSITION_RESIZE:
            raise ValueError(f"position_resize is {position_resize!r}; expected one of {', '.join(POSITION_RESIZE)}")
        check_transformer_name(name)
        if pretrained:
            shipped_weights(name)  # raises: says that no package ships them and what to do
        self.name = name
        self.normalization = normalization_of(name)
        self.stride = self.patch_size = stride_of(name, patch_size)
        arguments: dict[str, Any] = {
            "img_size": tuple(-(-side // self.stride) * self.stride for side in image_size),
            "num_classes": 0,
            "norm_layer": partial(nn.LayerNorm, eps=norm_eps),
            "drop_path_rate": drop_path_rate,
            "pos_drop_rate": dropout,
            "proj_drop_rate": dropout,
            "attn_drop_rate": dropout,
        }
        if patch_size is not None:
            arguments["patch_size"] = patch_size
        if is_beit(
            name
        ):  # its classifier averages the patches and has its norm there; a segmenter's is behind the blocks
            arguments["global_pool"] = ""
        self.vit = create_timm_model(name, **arguments | (timm_options or {}))
        _check_supported(name, self.vit)
        self.width: int = self.vit.embed_dim
        self.depth = len(self.vit.blocks)
        self.set_taps((self.depth - 1,) if taps is None else taps)
        if not drop_path_on_attention:
            for block in self.vit.blocks:
                block.drop_path1 = nn.Identity()
        if not final_norm:
            self.vit.norm = nn.Identity()
        self.position_resize = position_resize
        self.gradient_checkpointing = gradient_checkpointing
        self.keep_class_token_in_encoder = keep_class_token_in_encoder
        self.is_hybrid = isinstance(self.vit.patch_embed, HybridEmbed)
        self.grid: tuple[int, int] = tuple(self.vit.patch_embed.grid_size)
        prefix = [self.vit.cls_token]
        if "dist_token" in dict(self.vit.named_parameters(recurse=False)):
            prefix.append(self.vit.dist_token)
        self.prefix_tokens = len(prefix)
        self.relative_positions = is_beit(name) and self.vit.blocks[0].attn.relative_position_bias_table is not None
        if not keep_class_token_in_encoder:
            for token in prefix:
                token.requires_grad_(False)

    def set_taps(self, taps: tuple[int, ...]) -> None:
        """Choose the blocks whose outputs `forward` returns; BackboneError for one that does not exist."""
        for tap in taps:
            if not -1 <= tap < self.depth:
                raise BackboneError(
                    f"tap {tap} of {self.name}: its blocks are 0 to {self.depth - 1}, -1 is before them"
                )
        self.taps = taps

    def forward(self, image: Tensor) -> Tokens:
        """Tokens of a normalised image (B, 3, H, W).

        Raises:
            ValueError: H or W is no multiple of the stride; models pad before they call.
        """
        x, grid = self.embed(image)
        return Tokens(self.encode(x, grid), grid)

    def embed(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patch embedding: (B, 3, H, W) -> tokens (B, N, D) without position, and their grid."""
        height, width = image.shape[-2:]
        if image.ndim != 4 or image.shape[1] != 3 or height % self.stride or width % self.stride:
            raise ValueError(
                f"image of shape {tuple(image.shape)}; expected (B, 3, H, W) with H and W multiples of {self.stride}"
            )
        stem = self.vit.patch_embed
        # Not stem(image): timm's forward refuses other sizes than the built one.
        features = stem.proj(stem.backbone(image) if self.is_hybrid else image)  # (B, D, rows, cols)
        return features.flatten(2).transpose(1, 2), (features.shape[-2], features.shape[-1])

    def add_positions(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Put class and distillation tokens in front and add position embeddings: (B, N, D) -> (B, P + N, D)."""
        prefix = [self.vit.cls_token] if self.prefix_tokens == 1 else [self.vit.cls_token, self.vit.dist_token]
        batch = tokens.shape[0]
        x = torch.cat([*(token.expand(batch, -1, -1) for token in prefix), tokens], dim=1)
        if self.vit.pos_embed is not None:
            x = x + self.position_embedding(grid)
        x = self.vit.pos_drop(x)
        return x if self.keep_class_token_in_encoder else x[:, self.prefix_tokens :]

    def position_embedding(self, grid: tuple[int, int]) -> Tensor:
        """Learned embeddings (1, P + N, D) for a grid; those of the patches are resized where the grid is another."""
        embedding = self.vit.pos_embed  # (1, P + N, D); without P in models that leave the class token unplaced
        patches = self.grid[0] * self.grid[1]
        prefix, spatial = embedding[:, :-patches], embedding[:, -patches:]
        if prefix.shape[1] == 0:
            prefix = embedding.new_zeros(1, self.prefix_tokens, self.width)
        spatial = resize_tokens(spatial, self.grid, grid, self.position_resize)
        return torch.cat([prefix, spatial], dim=1)

    def encode(self, tokens: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """Positions, blocks and final norm: (B, N, D) without position -> the taps, each (B, N, D)."""
        x = self.add_positions(tokens, grid)
        index = gen_relative_position_index(grid).to(x.device) if self.relative_positions else None  # (1+N, 1+N)
        outputs = {-1: x}
        for number in range(self.depth):
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(self.run_block, number, x, grid, index, use_reentrant=False)  # type: ignore[assignment]
            else:
                x = self.run_block(number, x, grid, index)
            outputs[number] = x
        outputs[self.depth - 1] = self.vit.norm(x)
        return [self.drop_prefix(outputs[tap]) for tap in self.taps]

    def run_block(self, number: int, x: Tensor, grid: tuple[int, int], index: Tensor | None = None) -> Tensor:
        """One transformer block. `index` places the grid's tokens in BEiT's bias table; None for other transformers."""
        block: Any = self.vit.blocks[number]
        if index is None:
            return block(x)
        bias = relative_position_bias(
            block.attn.relative_position_bias_table, self.grid, grid, index, repeats=x.shape[0] if is_exporting() else 1
        )
        if not self.keep_class_token_in_encoder:
            bias = bias[..., self.prefix_tokens :, self.prefix_tokens :]
        attended = attend_with_bias(block.attn, block.norm1(x), bias)
        x = x + block.drop_path1(attended if block.gamma_1 is None else block.gamma_1 * attended)
        hidden = block.mlp(block.norm2(x))
        return x + block.drop_path2(hidden if block.gamma_2 is None else block.gamma_2 * hidden)

    def drop_prefix(self, x: Tensor) -> Tensor:
        """Remove class and distillation tokens, if they ran through the encoder: (B, P + N, D) -> (B, N, D)."""
        return x[:, self.prefix_tokens :] if self.keep_class_token_in_encoder else x


def check_transformer_name(name: str) -> None:
    """Raise BackboneError unless timm knows `name` as a vision transformer of a kind that is supported here."""
    check_backbone_name(name)
    if not name.startswith(("vit_", "deit_", "deit3_", "beit_", "beitv2_")):
        raise BackboneError(
            f"{name} is not a vision transformer that gives tokens; expected a timm name such as vit_base_patch16_384, "
            "deit_base_distilled_patch16_384, vit_small_r26_s32_384 or beit_base_patch16_384"
        )


def stride_of(name: str, patch_size: int | None) -> int:
    """Pixels along a token. Raises BackboneError if the name has none, or is a hybrid's and `patch_size` is given."""
    for part in name.split("_"):
        if part.startswith("patch") and part[5:].isdigit():
            return patch_size or int(part[5:])
        if part.startswith("s") and part[1:].isdigit():  # vit_small_r26_s32_384: the stem's stride
            if patch_size is not None:
                raise BackboneError(f"{name} has a convolutional stem, whose stride patch_size cannot change")
            return int(part[1:])
    raise BackboneError(f"{name} does not say its patch size; expected a name such as vit_base_patch16_384")


def _check_supported(name: str, vit: Any) -> None:
    if not isinstance(vit, VisionTransformer | Beit):
        raise BackboneError(f"{name} is timm's {type(vit).__name__}; expected a VisionTransformer or a Beit")
    if vit.cls_token is None:
        raise BackboneError(f"{name} has no class token; expected a transformer with one")
    if isinstance(vit, VisionTransformer) and (vit.reg_token is not None or not isinstance(vit.norm_pre, nn.Identity)):
        raise BackboneError(f"{name} has register tokens or a norm before its blocks, which no paper here uses")
    if isinstance(vit, Beit) and vit.rel_pos_bias is not None:
        raise BackboneError(f"{name} shares one relative position bias between blocks, which no paper here uses")
