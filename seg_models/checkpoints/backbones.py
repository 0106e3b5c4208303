"""Released files of backbones alone, in the own key names of the models here.

    timm                              vision transformers (DeiT, AugReg, ...), Swin Transformers, BEiT
    microsoft/unilm                   BEiT and BEiT v2: fine-tuned ImageNet classifiers, self-supervised pre-trained models
    microsoft/CSWin-Transformer       ImageNet classifiers, UperNet segmenters (of which the backbone is taken)

Values stay as they are. Keys that a conversion does not know keep their name and so are unexpected to the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from timm.models.beit import Beit
from torch import Tensor, nn

from seg_models.backbones.beit import resize_table
from seg_models.backbones.cswin import CSWinBackbone
from seg_models.backbones.swin import SwinBackbone
from seg_models.backbones.vit import TokenBackbone

State = Mapping[str, Tensor]


class BackboneState(NamedTuple):
    """A file of a backbone in the model's own key names.

    Attributes:
        tensors: what the file holds of the backbone; every key starts with "backbone.".
        unused: keys of the file that have no place in the model by design, such as the ImageNet classifier.
        absent: keys of the backbone that such a file never holds.
    """

    tensors: dict[str, Tensor]
    unused: tuple[str, ...]
    absent: tuple[str, ...] = ()


def backbone_kind(state: State) -> str:
    """Which of the known kinds of backbone a released state dict is of; "" if none."""
    if any(key.removeprefix("backbone.").startswith("stage1_conv_embed.") for key in state):
        return "CSWin Transformer"
    if "cls_token" in state and any(re.match(r"blocks\.\d+\.attn\.q_bias$", key) for key in state):
        return "BEiT"  # its key projection has no bias, so the files keep those of queries and values apart
    if "cls_token" in state and any(key.startswith("blocks.0.") for key in state):
        return "timm vision transformer"
    if "patch_embed.proj.weight" in state and "layers.0.blocks.0.attn.relative_position_bias_table" in state:
        return "timm Swin Transformer"
    return ""


def convert_backbone(state: State, backbone: nn.Module) -> BackboneState | None:
    """A released state dict in the key names of a model with this backbone; None if it is of another kind."""
    kind = backbone_kind(state)
    if isinstance(backbone, TokenBackbone):
        has_norm = not isinstance(backbone.vit.norm, nn.Identity)
        is_beit = isinstance(backbone.vit, Beit)
        if kind == "BEiT" and is_beit:
            return convert_beit(state, has_norm)
        if kind == "timm vision transformer" and not is_beit:
            return convert_timm(state, has_norm)
    if kind == "timm Swin Transformer" and isinstance(backbone, SwinBackbone):
        return convert_timm_swin(state)
    if kind == "CSWin Transformer" and isinstance(backbone, CSWinBackbone):
        return convert_cswin(state)
    return None


def backbone_size(tensors: State) -> str:
    """Width and blocks in words, of a state dict in own key names; "" where the patch embedding is missing.

    Serves to compare a file with a model before their keys, of which another size would list hundreds.
    """
    blocks: dict[str, set[str]] = {}
    width = 0
    for key, value in tensors.items():
        if found := re.match(r"backbone\.(?:vit\.|network\.layers_)?(.*?blocks|stage\d)\.(\d+)\.", key):
            blocks.setdefault(found[1], set()).add(found[2])
        elif re.match(r"backbone\.(.*patch_embed\.proj|stage1_conv_embed\.0)\.bias$", key):
            width = len(value)
    # Sorted: a .safetensors file has its keys in another order.
    depths = ", ".join(str(len(blocks[part])) for part in sorted(blocks))
    return f"width {width} and {depths} blocks" if width else ""


def convert_timm(state: State, has_norm: bool = True) -> BackboneState:
    """timm's (and DeiT's and AugReg's in timm's form) keys -> own keys. Unused are the parts of the ImageNet classifier,
    among them the norm behind the last block if the model has none (`has_norm`)."""
    parts = ("head.", "head_dist.", "pre_logits.", "fc_norm.") + (() if has_norm else ("norm.",))
    unused = tuple(key for key in state if key.startswith(parts))
    return BackboneState({f"backbone.vit.{key}": value for key, value in state.items() if key not in unused}, unused)


def convert_timm_swin(state: State) -> BackboneState:
    """timm's Swin keys -> own keys. Unused are the parts of the ImageNet classifier."""
    unused = tuple(key for key in state if key.startswith(("head.", "norm.")))
    names = {key: re.sub(r"^layers\.(\d)\.", r"layers_\1.", key) for key in state if key not in unused}
    return BackboneState({f"backbone.network.{name}": state[key] for key, name in names.items()}, unused)


_SHARED_TABLE = "backbone.vit.rel_pos_bias.relative_position_bias_table"


def convert_beit(state: State, has_norm: bool = True) -> BackboneState:
    """BEiT's and BEiT v2's keys -> own keys.

    A pre-trained file shares one table of relative position biases between its blocks; here, as in the authors'
    fine-tuning, each block gets it as its own. A classifier has a norm for its averaged patches, which is not the norm
    behind the last block; the latter is absent then.

    Args:
        state: a released state dict, or gradients by the same names.
        has_norm: whether the model has a norm behind the last block.
    """
    parts = ("head.", "fc_norm.", "mask_token", "lm_head.", "cls_pt_") + (() if has_norm else ("norm.",))
    unused = tuple(key for key in state if key.startswith(parts) or key.endswith("relative_position_index"))
    tensors = {f"backbone.vit.{key}": value for key, value in state.items() if key not in unused}
    own_tables = [key for key in tensors if key.endswith(".attn.relative_position_bias_table")]
    if not own_tables and _SHARED_TABLE in tensors:
        table = tensors.pop(_SHARED_TABLE)
        for block in dict.fromkeys(key.split(".")[1] for key in state if key.startswith("blocks.")):
            tensors[f"backbone.vit.blocks.{block}.attn.relative_position_bias_table"] = table
    averages = has_norm and "fc_norm.weight" in state and "norm.weight" not in state
    return BackboneState(tensors, unused, ("backbone.vit.norm.weight", "backbone.vit.norm.bias") if averages else ())


def convert_cswin(state: State) -> BackboneState:
    """microsoft/CSWin-Transformer's keys -> own keys.

    Unused are the heads. A classifier's norm is the one behind stage 4; it has none behind the other stages.
    The file does not tell the width of its stripes: those for 384 pixels need CSWinShape(..., stripes=(1, 2, 12)).
    """
    if any(key.startswith("backbone.") for key in state):
        unused = tuple(key for key in state if key.startswith(("decode_head.", "auxiliary_head.")))
        return BackboneState({key: value for key, value in state.items() if key not in unused}, unused)
    unused = tuple(key for key in state if key.startswith("head."))
    is_classifier = "norm.weight" in state and "norm4.weight" not in state
    tensors = {}
    for key, value in state.items():
        if key not in unused:
            tensors["backbone." + (re.sub(r"^norm\.", "norm4.", key) if is_classifier else key)] = value
    absent = tuple(f"backbone.norm{i}.{part}" for i in (1, 2, 3) for part in ("weight", "bias"))
    return BackboneState(tensors, unused, absent if is_classifier else ())


def resize_bias_table(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """BEiT's table of relative position biases of a file, resized bicubically as the backbone does for other images.

    (The authors resize with a spline on positions that grow apart geometrically, which gives other numbers.)

    Args:
        table: ((2 n - 1)^2 + 3, heads) of a released file, whose grid is square; the last three are the class token's.
        grid: (rows, cols) of the model.

    Returns:
        ((2 rows - 1)(2 cols - 1) + 3, heads); the table itself if it is of this grid, or of none that is square.
    """
    side = round(max(len(table) - 3, 0) ** 0.5)
    built = ((side + 1) // 2, (side + 1) // 2)
    if side * side != len(table) - 3 or side % 2 == 0 or built == grid:
        return table
    return resize_table(table, built, grid)
