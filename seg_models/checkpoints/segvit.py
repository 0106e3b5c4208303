"""SegViT's released files (zbwxp/SegVit, mmsegmentation keys) in the own key names of the models here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from seg_models.backbones.vit import resize_tokens
from seg_models.checkpoints.mmsegmentation import rename

State = Mapping[str, Tensor]

# One decoder layer; "{layer}" is replaced by the own name of the layer.
_LAYER = (
    (r"self_attn\.out_proj\.", "self_attention.out."),
    (r"multihead_attn\.(?:proj|out_proj)\.", "cross_attention.out."),
    (r"multihead_attn\.q\.", "cross_attention.query."),
    (r"multihead_attn\.k\.", "cross_attention.key."),
    (r"multihead_attn\.v\.", "cross_attention.value."),
    (r"(?=(?:linear[12]|norm[123])\.)", ""),
)
_ATTENTION = {"self_attn": "self_attention", "multihead_attn": "cross_attention"}


def is_segvit(state: State) -> bool:
    """Whether a state dict is of a SegViT, Shrunk or not."""
    return any(re.match(r"decode_head\.(atm\.)?decoder_1\.layers\.0\.multihead_attn\.q\.", key) for key in state)


def is_shrunk(state: State) -> bool:
    """Whether a SegViT's state dict is of the Shrunk form."""
    return any(key.startswith("decode_head.atm.") for key in state)


def convert_segvit(
    state: State, backbone_rules: tuple[tuple[str, str], ...]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """zbwxp/SegVit -> own keys, and the loss's class weights, which are no parameters and which the models here compute.

    Args:
        state: a released state dict, or gradients by the same names.
        backbone_rules: pairs of pattern and replacement for keys that start with "backbone.".

    Keys that no rule knows stay as they are, and so are unexpected to the model.
    """
    unused = tuple(key for key in state if key.endswith("loss_decode.criterion.empty_weight"))
    shrunk = is_shrunk(state)
    converted: dict[str, Tensor] = {}
    for key, value in state.items():
        if key in unused:
            continue
        if not key.startswith("decode_head."):
            converted[rename(key, backbone_rules)] = value
            continue
        name = key.removeprefix("decode_head.")
        is_upsampling = shrunk and not name.startswith("atm.")
        converted.update(_head_tensors(name.removeprefix("atm."), value, "upsampling" if is_upsampling else "decoder"))
    return converted, unused


def resize_queries(queries: Tensor, grid: tuple[int, int]) -> Tensor:
    """A file's QU queries (n^2, D), resized bicubically to (rows * cols, D); unchanged if they are of no square grid."""
    side = round(len(queries) ** 0.5)
    if side * side != len(queries):
        return queries
    return resize_tokens(queries[None], (side, side), grid)[0]


def _head_tensors(name: str, value: Tensor, owner: str) -> dict[str, Tensor]:
    """One tensor of a head -> one of the module `owner`, or the three that a joint projection holds."""
    upsampling = owner == "upsampling"
    if name == "q.weight":
        return {f"{owner}.{'queries' if upsampling else 'class_tokens'}": value}
    if name.startswith("class_embed."):
        return {f"{owner}.{name.replace('class_embed', 'classifier')}": value}
    found = re.fullmatch(r"(input_proj|proj_norm)_(\d+)\.(\w+)", name)
    if found:
        part, stage = (0 if found[1] == "input_proj" else 1), int(found[2]) - 1
        where = f"projects.{stage}" if upsampling else f"stages.{stage}.project"
        return {f"{owner}.{where}.{part}.{found[3]}": value}
    found = re.fullmatch(r"decoder_(\d+)\.layers\.(\d+)\.(.+)", name)
    if not found:
        return {f"decode_head.{name}": value}
    stage, layer, rest = int(found[1]) - 1, found[2], found[3]
    prefix = f"{owner}.stages.{stage}.{layer}" if upsampling else f"{owner}.stages.{stage}.layers.{layer}"
    joint = re.fullmatch(r"(self_attn|multihead_attn)\.in_proj_(weight|bias)", rest)
    if joint:
        parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
        return {f"{prefix}.{_ATTENTION[joint[1]]}.{part}.{joint[2]}": tensor for part, tensor in parts}
    return {f"{prefix}.{rename(rest, _LAYER)}": value}
