"""Quantisation-aware training: a model in its deployed form whose layers compute as an int8 file's will.

    x -> s clamp(round(x / s), -128, 127)     what a layer reads, s learnt (LSQ, Esser et al., ICLR 2020)
    w -> t clamp(round(w / t), -64, 64)       its weights, t = max |w| / 64 for each output channel
    bias                                      stays as it is

Rounding is to even, as QuantizeLinear's. Gradients pass the rounding as if it were not there (straight-through), for x within
the range; s gets those of LSQ, scaled by 1 / sqrt(127 N) for N values.

Layers that read the same tensor have one range in common: a file has one pair of QuantizeLinear and DequantizeLinear there.
Which layers are quantised and which read the same is not known here; `seg_models/export/int8.py` finds it in the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from seg_models.segmentation_model import SegmentationModel

LOWEST, HIGHEST = -128, 127
# Of weights. Processors without VNNI add two products of 8-bit numbers in 16 bits, and a sum that does not fit is cut off without
# a word: with 64 every sum fits. The steps are twice as wide for that, which costs 0.3 points of mIoU (docs/export.md).
HIGHEST_WEIGHT = 64
PERCENTILE = 99.99  # of the absolute values, where a range begins to be learnt
MOST_SAMPLED = 100_000  # values of a tensor that the percentile is taken of
SMALLEST_SCALE = 1e-8


class QuantizationError(ValueError):
    """A model that cannot be quantised."""


class _LearnedStep(torch.autograd.Function):
    """Fake quantisation with the gradients of LSQ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return ((x / scale).round().clamp(LOWEST, HIGHEST) * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        x, scale = ctx.saved_tensors
        ratio = x.float() / scale
        inside = (ratio >= LOWEST) & (ratio <= HIGHEST)
        of_scale = torch.where(inside, ratio.round() - ratio, ratio.clamp(LOWEST, HIGHEST))
        step = (gradient.float() * of_scale).sum() / (HIGHEST * x.numel()) ** 0.5
        return gradient * inside, step.reshape(scale.shape)


class InputRange(nn.Module):
    """The range of a tensor that layers read.

    Attributes:
        scale: float (1,), s; its absolute value counts.
        seen: of the calibration's batches, the percentiles, while it lasts; None else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.seen: list[float] | None = None

    def step(self) -> Tensor:
        """s, above 0."""
        return self.scale.abs().clamp(min=SMALLEST_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantised, float of the same shape; as it is while the range is looked for."""
        if self.seen is None:
            return _LearnedStep.apply(x, self.step())
        values = x.detach().flatten().abs().float()
        values = values[:: -(-len(values) // MOST_SAMPLED)]
        self.seen.append(float(torch.quantile(values, PERCENTILE / 100)))
        return x


class QuantizedLayer(nn.Module):
    """A convolution or linear layer that reads and weighs in 8 bits.

    Args:
        layer: the layer.
        range_: of what it reads; several layers may have one.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, range_: InputRange) -> None:
        super().__init__()
        self.layer, self.range = layer, range_

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output. In an export it is the plain layer's: the file's writer puts the pairs in."""
        if torch.compiler.is_exporting():
            return self.layer(x)
        weight = self.layer.weight
        return functional_call(self.layer, {"weight": weight + (rounded(weight) - weight).detach()}, (self.range(x),))


def rounded(weight: Tensor) -> Tensor:
    """Weights (out, ...) as 8 bits hold them, with a step of their own for each output channel."""
    with torch.no_grad():
        step = weight_step(weight)
        return (weight / step).round().clamp(-HIGHEST_WEIGHT, HIGHEST_WEIGHT) * step


def weight_step(weight: Tensor) -> Tensor:
    """t of weights (out, ...), broadcast against them; 1 for a channel of zeros."""
    largest = weight.detach().abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
    return torch.where(largest > 0, largest / HIGHEST_WEIGHT, torch.ones_like(largest))


def quantize(model: SegmentationModel, groups: Sequence[Sequence[str]]) -> SegmentationModel:
    """The deployed form of a model with layers that are quantised and learn.

    Args:
        model: with its weights; not changed where it has a deployed form of its own.
        groups: paths of the layers in the deployed form; those of one group read the same tensor.

    Raises:
        QuantizationError: a path that leads to no convolution or linear layer.
    """
    deployed = model.deployed()
    deployed.requires_grad_(True)
    for group in groups:
        common = InputRange()
        for path in group:
            parent, _, name = path.rpartition(".")
            try:
                owner = deployed.get_submodule(parent)
                layer = owner.get_submodule(name)
            except AttributeError as error:
                raise QuantizationError(f"the {type(deployed).__name__} has no layer {path!r} to quantise") from error
            if not isinstance(layer, nn.Conv2d | nn.Linear):
                raise QuantizationError(
                    f"{path!r} is a {type(layer).__name__}; expected a convolution or linear layer to quantise"
                )
            owner.register_module(name, QuantizedLayer(layer, common))
    return deployed


def ranges(model: nn.Module) -> dict[str, InputRange]:
    """Of each quantised layer's path in the deployed form, its range."""
    return {path: part.range for path, part in model.named_modules() if isinstance(part, QuantizedLayer)}


@torch.no_grad()
def calibrate(model: SegmentationModel, images: Iterable[Tensor]) -> None:
    """Let the ranges begin where the values of some batches lie: the mean over them of the percentile.

    Args:
        model: of `quantize`.
        images: normalised batches, float (B, 3, H, W) at the model's size.
    """
    found = {id(each): each for each in ranges(model).values()}.values()
    was_training = model.training
    model.eval()
    for each in found:
        each.seen = []
    for image in images:
        model(image)
    for each in found:
        assert each.seen
        each.scale.fill_(max(sum(each.seen) / len(each.seen) / HIGHEST, SMALLEST_SCALE))
        each.seen = None
    model.train(was_training)
