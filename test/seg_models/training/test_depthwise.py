"""Float32 gradients of depthwise convolutions under bfloat16."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seg_models.training.depthwise import QuickDepthwiseGradients, is_slow


def gradients(kernel: int, stride: int, quick: bool, autocast: bool = True) -> list[torch.Tensor]:
    """Of input and weight of one depthwise convolution."""
    torch.manual_seed(0)
    x = torch.randn(2, 8, 12, 16, requires_grad=True)
    weight = torch.randn(8, 1, kernel, kernel, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        if quick:
            with QuickDepthwiseGradients():
                y = F.conv2d(x, weight, None, (stride, stride), (kernel // 2, kernel // 2), (1, 1), 8)
        else:
            y = F.conv2d(x, weight, None, (stride, stride), (kernel // 2, kernel // 2), (1, 1), 8)
    (y.float() ** 2).sum().backward()
    assert x.grad is not None
    assert weight.grad is not None
    return [y.detach().float(), x.grad, weight.grad]


@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (3, 2), (5, 2), (3, 1)])
def test_the_output_is_the_same_and_gradients_are_no_further_from_float32(kernel, stride):
    exact = gradients(kernel, stride, quick=False, autocast=False)
    usual = gradients(kernel, stride, quick=False)
    quick = gradients(kernel, stride, quick=True)
    assert torch.equal(quick[0], usual[0])
    for ours, theirs, reference in zip(quick[1:], usual[1:], exact[1:], strict=True):
        # 1 %: both round inputs and gradients to 8 bits; theirs also rounds the sums.
        assert (ours - reference).norm() <= max(1.05 * (theirs - reference).norm(), 0.01 * reference.norm())
        assert ours.dtype == theirs.dtype


@pytest.mark.parametrize(
    ("kernel", "stride", "groups", "slow"), [(5, 1, 8, True), (3, 2, 8, True), (3, 1, 8, False), (5, 1, 4, False)]
)
def test_only_slow_depthwise_convolutions_are_taken(kernel, stride, groups, slow):
    x, weight = torch.randn(1, 8, 8, 8), torch.randn(8, 8 // groups, kernel, kernel)
    with torch.autocast("cpu", torch.bfloat16):
        assert is_slow(x, weight, None, (stride,) * 2, (kernel // 2,) * 2, (1, 1), groups) is slow
        with torch.no_grad():
            assert not is_slow(x, weight, None, (stride,) * 2, (kernel // 2,) * 2, (1, 1), groups)
    assert not is_slow(x, weight, None, (stride,) * 2, (kernel // 2,) * 2, (1, 1), groups)


def test_a_frozen_weight_and_an_input_without_gradient_get_none():
    x, weight = torch.randn(1, 4, 8, 8), torch.randn(4, 1, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), QuickDepthwiseGradients():
        F.conv2d(x, weight, None, (1, 1), (2, 2), (1, 1), 4).sum().backward()
    assert weight.grad is not None
    assert x.grad is None
    x.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16), QuickDepthwiseGradients():
        F.conv2d(x, weight.detach(), None, (1, 1), (2, 2), (1, 1), 4).sum().backward()
    assert x.grad is not None
