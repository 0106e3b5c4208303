"""Load timm's files of convolutional networks (ResNet, ConvNeXt, EfficientNet, ...) into a model's backbone, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from seg_models.backbones.conv import ConvBackbone
from seg_models.checkpoints.fitting import LoadReport, strict_load
from seg_models.checkpoints.reading import read_checkpoint
from seg_models.segmentation_model import SegmentationModel


def load_convolutional_backbone(model: SegmentationModel, path: str | Path) -> LoadReport:
    """Fill the ConvBackbone of a model from a .pth or .safetensors file of the same timm network, whole or not at all.

    Raises:
        CheckpointError: an unreadable or unsafe file, or one of another network. The model is then unchanged.
        TypeError: the model's backbone is no ConvBackbone.
    """
    if not isinstance(model.backbone, ConvBackbone):
        raise TypeError(f"the backbone is a {type(model.backbone).__name__}; expected a ConvBackbone")
    converted, unused = convert_convolutional(read_checkpoint(path), model.backbone)
    # Counters of batch norms that only a momentum of None reads; many files leave them out.
    return strict_load(
        model,
        converted,
        unused,
        lambda key: not key.startswith("backbone.") or (key.endswith("num_batches_tracked") and key not in converted),
        where=str(path),
    )


def convert_convolutional(
    state: Mapping[str, Tensor], backbone: ConvBackbone
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """timm's keys -> own keys, and the keys of parts that the backbone does not have: the ImageNet classifier and what lies
    behind the deepest stage that it returns."""
    children = {name for name, _ in backbone.network.named_children()}
    own_parts = {_part(key) for key in backbone.network.state_dict()}
    converted, unused = {}, []
    for key, value in state.items():
        first, _, rest = key.partition(".")
        second, _, inner = rest.partition(".")
        # Where timm takes features from inside a container, its "stages.0" is the backbone's "stages_0".
        name = f"{first}_{second}.{inner}" if f"{first}_{second}" in children else key
        if _part(name) in own_parts:
            converted[f"backbone.network.{name}"] = value
        else:
            unused.append(key)
    return converted, tuple(unused)


def _part(key: str) -> str:
    """The block of a parameter: the first two names of its key, or the first alone in front of "weight" and the like."""
    names = key.split(".")
    return ".".join(names[: min(2, len(names) - 1)])
