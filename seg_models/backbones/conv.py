"""Convolutional networks from timm, as feature maps at named strides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from timm.layers import DropPath, Format
from timm.models import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seg_models.backbones.timm_models import (
    BackboneError,
    check_backbone_name,
    create_timm_model,
    normalization_of,
    shipped_weights,
)


class ConvBackbone(nn.Module):
    """A convolutional timm network as feature maps at the strides a decoder asks for.

    Args:
        name: timm model name.
        strides: wanted strides, ascending. A stride below the network's first one stands for that first one.
        pretrained: start from ImageNet weights that an installed package ships (see `shipped_weights`).
        drop_path_rate: stochastic depth of the deepest block.
        gradient_checkpointing: recompute each stage in the backward pass instead of keeping its activations. Running
            statistics of batch norms are updated once a step all the same.

    Attributes:
        channels: channels of each returned map, in the order of `strides`.
        stride: the deepest stride; image sides must be multiples of it.
        normalization: mean and std that the weights were trained with.

    Raises:
        BackboneError: unknown name (near ones are listed), no map at an asked stride, no weights to start from, no
            stochastic depth or no stages to recompute where they are asked for.
    """

    network: Any  # one of timm's feature networks; their attributes are typed loosely there

    def __init__(
        self,
        name: str,
        strides: tuple[int, ...] = (2, 8, 32),
        pretrained: bool = False,
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_backbone_name(name)
        info: Any = create_timm_model(name, features_only=True).feature_info
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
        options = {"drop_path_rate": drop_path_rate} if drop_path_rate > 0 else {}
        self.network = create_timm_model(name, features_only=True, out_indices=tuple(picks), **options)
        if isinstance(self.network, FeatureListNet) and self.network.output_fmt != Format.NCHW:
            raise BackboneError(f"{name} gives feature maps with the channels last; expected a convolutional network")
        if drop_path_rate > 0 and not any(isinstance(m, DropPath) and m.drop_prob for m in self.network.modules()):
            raise BackboneError(f"{name} has no block that drop_path_rate {drop_path_rate} could drop; use 0")
        self.gradient_checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            self.stages()  # raises where there are none, now and not in the first step
        if pretrained:
            weights = shipped_weights(name)
            self.network.load_state_dict({k: weights[k] for k in self.network.state_dict()})

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W), normalised -> a map (B, C_i, H/stride_i, W/stride_i) for each asked stride."""
        return self.run_stages(image) if self.gradient_checkpointing else self.network(image)

    def stages(self) -> list[tuple[nn.Module, bool]]:
        """The network cut into parts that run one after another; whether the output of a part is a map to return.

        Raises:
            BackboneError: a kind of network whose parts are not known here.
        """
        network = self.network
        if isinstance(network, FeatureListNet):
            return [(part, name in network.return_layers) for name, part in network.items()]
        if isinstance(network, EfficientNetFeatures | MobileNetV3Features) and network.feature_hooks is None:
            stem = [part for name, part in network.named_children() if name != "blocks"]
            asked = [number in network._stage_out_idx for number in range(len(network.blocks) + 1)]
            return list(zip([nn.Sequential(*stem), *network.blocks], asked, strict=True))
        raise BackboneError(f"{self.name} has no stages to recompute; use gradient_checkpointing: false")

    def run_stages(self, image: Tensor) -> list[Tensor]:
        """What the network's own forward pass does, with each stage recomputed in the backward pass if so asked."""
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        x, maps = image, []
        for part, is_asked in self.stages():
            # A lone layer (a stem's convolution, or an activation that overwrites its input) has nothing to recompute.
            if recompute and len(list(part.children())) > 0:
                contexts = partial(_recompute_contexts, part)
                x = checkpoint(part, x, use_reentrant=False, context_fn=contexts)  # type: ignore[assignment]
            else:
                x = part(x)
            if is_asked:
                maps.append(x)
        return maps


class ConvNextBackbone(ConvBackbone):
    """A ConvNeXt, whose "stage 1" in the Superpixel Transformer's numbering is its stem at stride 4.

    timm's feature list starts after the first stage of blocks; the map returned for stride 4 here is the stem's, before
    them. Arguments, attributes and errors as `ConvBackbone`.
    """

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W), normalised -> as ConvBackbone, with the stem (B, C, H/4, W/4) for stride 4."""
        return self.run_stages(image)

    def stages(self) -> list[tuple[nn.Module, bool]]:
        """As ConvBackbone, with the stem's last layer in place of the first stage of blocks."""
        parts = dict(zip(self.network.keys(), super().stages(), strict=True))
        (stem, _), (blocks, is_asked) = parts["stem_1"], parts["stages_0"]
        return list((parts | {"stem_1": (stem, is_asked), "stages_0": (blocks, False)}).values())


def conv_backbone(
    name: str,
    strides: tuple[int, ...] = (2, 8, 32),
    pretrained: bool = False,
    drop_path_rate: float = 0.0,
    gradient_checkpointing: bool = False,
) -> ConvBackbone:
    """The right class of convolutional backbone for a timm name. Arguments and errors as `ConvBackbone`."""
    kind = ConvNextBackbone if name.startswith("convnext") else ConvBackbone
    return kind(name, strides, pretrained, drop_path_rate, gradient_checkpointing)


def _recompute_contexts(part: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts for the first pass of a part and for its recomputation."""
    return nullcontext(), _frozen_statistics(part)


@contextmanager
def _frozen_statistics(part: nn.Module) -> Iterator[None]:
    """Batch norms normalise by the batch's statistics as before, but the running ones stay: they have seen this batch."""
    norms = [m for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
