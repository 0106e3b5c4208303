"""The Swin Transformer from timm, as feature maps at strides 4, 8, 16 and 32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seg_models.backbones.timm_models import (
    BackboneError,
    check_backbone_name,
    create_timm_model,
    normalization_of,
    shipped_weights,
)

LEVELS = 4


class SwinBackbone(nn.Module):
    """A Swin Transformer.

    Args:
        name: timm model name, such as swin_tiny_patch4_window7_224.
        image_size: (H, W) that the windows are laid out for; other sizes work.
        levels: which of the four to return, from 0 (stride 4) to 3 (stride 32), ascending.
        drop_path_rate: stochastic depth of the last block; linear from 0 at the first.
        gradient_checkpointing: recompute each stage in the backward pass instead of keeping its activations.
        pretrained: ImageNet weights of an installed package; none is known, so True is refused.
        timm_options: further arguments of the timm model, such as {"embed_dim": 24, "depths": (1, 1, 1, 1)}.

    Attributes:
        channels: of each returned level.
        stride: of the deepest level; image sides must be multiples of it.
        normalization: mean and std that timm's weights of this name were trained with, 0..255 units.

    Raises:
        BackboneError: unknown name (near ones are listed), not a Swin Transformer, `pretrained`, bad levels.
    """

    network: Any  # timm's FeatureListNet; its attributes are typed loosely there

    def __init__(
        self,
        name: str,
        image_size: tuple[int, int],
        levels: tuple[int, ...] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
        pretrained: bool = False,
        timm_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_backbone_name(name)
        if not name.startswith("swin_"):
            raise BackboneError(
                f"{name} is no Swin Transformer; expected a timm name such as swin_tiny_patch4_window7_224"
            )
        levels = tuple(levels)
        if not levels or list(levels) != sorted(set(levels)) or not 0 <= levels[0] <= levels[-1] < LEVELS:
            raise BackboneError(f"levels are {levels}; expected some of 0, 1, 2, 3, ascending")
        if pretrained:
            shipped_weights(name)  # raises: says that no package ships them and what to do
        self.name = name
        self.normalization = normalization_of(name)
        self.stride = 4 * 2 ** levels[-1]
        self.gradient_checkpointing = gradient_checkpointing
        arguments = {"drop_path_rate": drop_path_rate, "strict_img_size": False} | (timm_options or {})
        # Stages past the deepest one that is asked for would only cost time.
        built_size = tuple(-(-side // 32) * 32 for side in image_size)
        self.network = create_timm_model(name, features_only=True, out_indices=levels, img_size=built_size, **arguments)
        self.levels = levels
        self.channels = tuple(self.network.feature_info.channels())

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W), normalised -> a map (B, C_i, H / stride_i, W / stride_i) for each of `levels`.

        Raises:
            ValueError: H or W is no multiple of the stride; models pad before they call.
        """
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[-2] % self.stride or image.shape[-1] % self.stride:
            raise ValueError(
                f"image of shape {tuple(image.shape)}; expected (B, 3, H, W) with H and W multiples of {self.stride}"
            )
        x = self.network.patch_embed(image)  # (B, H / 4, W / 4, C_0)
        maps = []
        for level in range(self.levels[-1] + 1):
            stage = self.network[f"layers_{level}"]
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(stage, x, use_reentrant=False)
            else:
                x = stage(x)
            if level in self.levels:
                maps.append(x.permute(0, 3, 1, 2))  # (B, C_i, rows, cols)
        return maps
