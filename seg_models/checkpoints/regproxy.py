"""RegProxy's released files (YiF-Zhang/RegionProxy, mmsegmentation keys) in the own key names of the model here."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from seg_models.checkpoints.mmsegmentation import VISION_TRANSFORMER, rename

State = Mapping[str, Tensor]


def is_regproxy(state: State) -> bool:
    """Whether a state dict is of a RegProxy."""
    return any(key.startswith("decode_head.affinity_head.") for key in state)


def convert_regproxy(state: State) -> dict[str, Tensor]:
    """YiF-Zhang/RegionProxy -> own keys."""
    rules = (
        (r"^decode_head\.mlp\.0\.0\.", "classifier."),
        (r"^decode_head\.affinity_head\.0\.depthwise_conv\.conv\.", "affinity_head.depthwise.0."),
        (r"^decode_head\.affinity_head\.0\.depthwise_conv\.bn\.", "affinity_head.depthwise.1."),
        (r"^decode_head\.affinity_head\.0\.pointwise_conv\.conv\.", "affinity_head.pointwise.0."),
        (r"^decode_head\.affinity_head\.0\.pointwise_conv\.bn\.", "affinity_head.pointwise.1."),
        (r"^decode_head\.affinity_head\.1\.conv\.", "affinity_head.out."),
    )
    return {rename(key, rules + VISION_TRANSFORMER): value for key, value in state.items()}
