"""Segmenter's released files (rstrudel/segmenter) in the own key names of the model here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

State = Mapping[str, Tensor]


def is_segmenter(state: State) -> bool:
    """Whether a state dict is of a whole Segmenter."""
    return any(key.startswith("encoder.blocks.") for key in state) and any(key.startswith("decoder.") for key in state)


def convert_segmenter(state: State) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """rstrudel/segmenter -> own keys, and the encoder's ImageNet classifier, which no segmenter has a use for."""
    unused = tuple(key for key in state if key.startswith(("encoder.head.", "encoder.head_dist.")))
    converted = {}
    for key, value in state.items():
        if key not in unused:
            converted[re.sub(r"^encoder\.", "backbone.vit.", key)] = value
    return converted, unused
