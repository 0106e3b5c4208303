"""Quicker gradients of depthwise convolutions on CPUs.

PyTorch's bfloat16 gradients of depthwise convolutions with a stride or a 5x5 kernel take up to 19 times as long on CPUs as its
float32 ones, and so half of a training step of a mobile network: EfficientNet-Lite0 with the robot's decoder, batch 8, 512x384,
two cores with AMX: 2.33 s a step, 1.48 s with this. Here they are computed in float32 from the bfloat16 activations; the
forward pass stays as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _DepthwiseConvolution(torch.autograd.Function):
    """A convolution in bfloat16 with a backward pass in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> Tensor:
        x, weight_16 = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(x, weight_16)
        ctx.geometry, ctx.weight_type = (stride, padding), weight.dtype
        return torch.ops.aten.convolution(x, weight_16, None, stride, padding, [1, 1], False, [0, 0], len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            gradients[0].float(),
            x.float(),
            weight.float(),
            None,
            *ctx.geometry,
            [1, 1],
            False,
            [0, 0],
            len(weight),
            [*ctx.needs_input_grad[:2], False],
        )
        of_x = of_x.to(x.dtype) if ctx.needs_input_grad[0] else None
        return of_x, of_weight.to(ctx.weight_type) if ctx.needs_input_grad[1] else None, None, None


class QuickDepthwiseGradients(TorchFunctionMode):
    """Context of a forward pass: slow depthwise convolutions in it get float32 gradients.

    Only where autocast would compute them in bfloat16 on a CPU; everything else is left alone.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # Modules call it with seven places filled and pairs for the geometry; other calls are left alone.
        if func is torch.conv2d and len(args) == 7 and not kwargs and isinstance(args[3], tuple) and is_slow(*args):
            x, weight, _, stride, padding, _, _ = args
            return _DepthwiseConvolution.apply(x, weight, stride, tuple(padding))
        return func(*args, **kwargs)


def is_slow(x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> bool:
    """Whether these arguments of `torch.conv2d` are a depthwise convolution whose bfloat16 gradients are slow."""
    if not (torch.is_grad_enabled() and x.device.type == "cpu" and torch.is_autocast_enabled("cpu")):
        return False
    if torch.get_autocast_dtype("cpu") != torch.bfloat16 or isinstance(padding, str):
        return False
    is_depthwise = groups > 1 and weight.shape[1] == 1 and len(weight) == groups == x.shape[1]
    is_plain = bias is None and tuple(dilation) == (1, 1)
    return is_depthwise and is_plain and (weight.shape[-1] > 3 or max(stride) > 1)
