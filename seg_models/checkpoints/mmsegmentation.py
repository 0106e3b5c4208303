"""mmsegmentation's names of a vision transformer, which RegProxy's and SegViT's released files share."""

from __future__ import annotations

import re
from collections.abc import Iterable

# mmsegmentation's VisionTransformer -> a TokenBackbone called "backbone"; applied in order to the start of a key.
VISION_TRANSFORMER = (
    (r"^backbone\.patch_embed\.projection\.", "backbone.vit.patch_embed.proj."),
    (r"^backbone\.ln1\.", "backbone.vit.norm."),
    (r"^backbone\.layers\.(\d+)\.ln([12])\.", r"backbone.vit.blocks.\1.norm\2."),
    (r"^backbone\.layers\.(\d+)\.attn\.attn\.in_proj_", r"backbone.vit.blocks.\1.attn.qkv."),
    (r"^backbone\.layers\.(\d+)\.attn\.attn\.out_proj\.", r"backbone.vit.blocks.\1.attn.proj."),
    (r"^backbone\.layers\.(\d+)\.ffn\.layers\.0\.0\.", r"backbone.vit.blocks.\1.mlp.fc1."),
    (r"^backbone\.layers\.(\d+)\.ffn\.layers\.1\.", r"backbone.vit.blocks.\1.mlp.fc2."),
    (r"^backbone\.(?=(cls_token|dist_token|pos_embed|patch_embed\.(backbone|proj)\.))", "backbone.vit."),
)


def rename(key: str, rules: Iterable[tuple[str, str]]) -> str:
    """The key under the first rule that matches its start; unchanged, and so unexpected to the model, if none does."""
    for pattern, replacement in rules:
        if re.match(pattern, key):
            return re.sub(pattern, replacement, key, count=1)
    return key
