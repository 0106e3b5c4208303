"""CSWin: published sizes, stripes that see what they should, any map size, the released key names, errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seg_models.backbones.cswin import CSWIN_SHAPES, CSWinBackbone, CSWinShape, StripeAttention
from seg_models.backbones.timm_models import BackboneError

TINY = CSWinShape(width=8, depths=(1, 1, 2, 1), heads=(2, 2, 2, 2), stripes=(1, 2, 3))


@pytest.mark.parametrize(
    ("name", "millions"),
    [("cswin_tiny", 23), ("cswin_small", 35), ("cswin_base", 78), ("cswin_large", 173)],  # CSWin's Table 1
)
def test_parameter_counts_are_the_papers(name, millions):
    with torch.device("meta"):
        backbone = CSWinBackbone(name)
    width = backbone.channels[3]
    # The paper counts the ImageNet classifier and one LayerNorm instead of a stage's each.
    extra_norms = 2 * sum(backbone.channels[:3])
    count = sum(p.numel() for p in backbone.parameters()) + 1000 * width + 1000 - extra_norms
    # 22.32, 34.64, 77.38 and 173.26 M; the paper seems to round up to 23 and 78.
    assert count / 1e6 == pytest.approx(millions, abs=0.75)


def test_maps_have_the_strides_and_channels_of_their_stages():
    backbone = CSWinBackbone("cswin_tiny", shape=TINY, taps=(0, 1, 2, 3, 4)).eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(2, 3, 64, 96))
    shapes = [(2, 8, 16, 24), (2, 16, 8, 12), (2, 32, 4, 6), (2, 32, 4, 6), (2, 64, 2, 3)]
    assert [tuple(m.shape) for m in maps] == shapes


@pytest.mark.parametrize(("direction", "rows", "cols"), [("vertical", 6, 2), ("horizontal", 2, 8), ("global", 6, 8)])
def test_a_token_sees_its_own_stripe_alone(direction, rows, cols):
    torch.manual_seed(0)
    attention = StripeAttention(8, 2, direction, 2).double()
    qkv = torch.randn(1, 6, 8, 3, 8, dtype=torch.float64, requires_grad=True)
    attention(qkv)[0, 0, 0].sum().backward()
    assert qkv.grad is not None
    seen = qkv.grad[0].abs().sum((-1, -2)) > 0
    expected = torch.zeros(6, 8, dtype=torch.bool)
    expected[:rows, :cols] = True
    assert torch.equal(seen, expected)


def test_stripe_attention_equals_its_definition_in_one_stripe():
    torch.manual_seed(0)
    attention = StripeAttention(8, 2, "vertical", 2).double()
    qkv = torch.randn(1, 5, 4, 3, 8, dtype=torch.float64)
    q, k, v = (qkv[0, :, 2:4, i].reshape(10, 2, 4).transpose(0, 1) for i in range(3))  # (heads, 10, 4)
    scores = (q @ k.transpose(1, 2) / 2).softmax(-1)  # sqrt(4)
    attended = (scores @ v).transpose(0, 1).reshape(5, 2, 8)
    values = qkv[0, :, 2:4, 2].permute(2, 0, 1)[None]
    position = F.conv2d(values, attention.get_v.weight, attention.get_v.bias, padding=1, groups=8)
    with torch.no_grad():
        actual = attention(qkv)[0, :, 2:4]
        torch.testing.assert_close(actual, attended + position[0].permute(1, 2, 0))


def test_maps_that_stripes_do_not_divide_are_padded_evenly_with_zeros():
    torch.manual_seed(0)
    attention = StripeAttention(4, 2, "horizontal", 3).double()
    qkv = torch.randn(1, 4, 5, 3, 4, dtype=torch.float64)
    padded = torch.zeros(1, 6, 5, 3, 4, dtype=torch.float64)
    padded[:, 1:5] = qkv
    with torch.no_grad():
        torch.testing.assert_close(attention(qkv), attention(padded)[:, 1:5])


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = CSWinBackbone("cswin_tiny", shape=TINY, gradient_checkpointing=checkpointing).train()
        torch.manual_seed(1)
        sum(m.square().mean() for m in backbone(torch.randn(1, 3, 32, 64))).backward()
        gradients.append([p.grad for p in backbone.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_parameters_carry_the_released_names():
    with torch.device("meta"):
        keys = set(CSWinBackbone("cswin_tiny").state_dict())
    released = {"stage1_conv_embed.0.weight", "stage1_conv_embed.2.bias", "stage1.0.attns.1.get_v.weight",
                "stage3.20.qkv.bias", "stage4.0.attns.0.get_v.bias", "stage2.1.mlp.fc1.weight", "merge3.conv.weight",
                "merge1.norm.bias", "norm4.weight", "stage3.0.proj.weight", "stage1.0.norm2.weight"}  # fmt: skip
    assert released <= keys
    assert not [key for key in keys if key.startswith("stage4.0.attns.1")]


def test_errors_say_what_came_and_what_is_known():
    with pytest.raises(BackboneError, match=r"'cswin_tny'; near names: cswin_tiny"):
        CSWinBackbone("cswin_tny")
    with pytest.raises(BackboneError, match=r"tap 5 of cswin_tiny: its blocks are 0 to 4"):
        CSWinBackbone("cswin_tiny", shape=TINY, taps=(5,))
    with pytest.raises(BackboneError, match="no installed package ships weights for cswin_tiny"):
        CSWinBackbone("cswin_tiny", pretrained=True)
    with pytest.raises(ValueError, match=r"\(1, 3, 40, 64\); expected .* multiples of 32"):
        CSWinBackbone("cswin_tiny", shape=TINY)(torch.zeros(1, 3, 40, 64))
    assert set(CSWIN_SHAPES) == {"cswin_tiny", "cswin_small", "cswin_base", "cswin_large"}
