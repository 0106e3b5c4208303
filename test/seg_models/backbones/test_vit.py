"""Tests of the transformer backbones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seg_models.backbones.timm_models import BackboneError
from seg_models.backbones.vit import TokenBackbone

TINY = {"embed_dim": 24, "depth": 3, "num_heads": 2}
VIT, DISTILLED, BEIT, HYBRID = (
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "beit_base_patch16_224",
    "vit_small_r26_s32_384",
)


def tiny(name: str = VIT, size: tuple[int, int] = (64, 96), **options) -> TokenBackbone:
    """A small backbone with random weights, those that timm starts at zero included."""
    generator = torch.Generator().manual_seed(0)
    backbone = TokenBackbone(name, size, options.pop("taps", (-1, 1, 2)), timm_options=TINY, **options)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return backbone.eval()


def picture(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [VIT, DISTILLED, BEIT, HYBRID])
def test_the_last_tap_equals_timm_own_features_at_the_built_size(name):
    backbone = tiny(name)
    with torch.no_grad():
        expected = backbone.vit.forward_features(picture(64, 96))[:, backbone.prefix_tokens :]
        tokens = backbone(picture(64, 96))
    # 1e-5: BEiT's attention is written out here, the sums run in another order.
    torch.testing.assert_close(tokens.taps[-1], expected, atol=1e-5, rtol=1e-5)
    assert tokens.grid == (64 // backbone.stride, 96 // backbone.stride)


def test_inner_taps_are_the_raw_residual_stream():
    backbone = tiny()
    before, middle, last = backbone(picture(64, 96)).taps
    assert before.shape == middle.shape == last.shape == (2, 24, 24)
    x = backbone.add_positions(*backbone.embed(picture(64, 96)))
    torch.testing.assert_close(before, x[:, 1:])
    x = backbone.vit.blocks[1](backbone.vit.blocks[0](x))
    torch.testing.assert_close(middle, x[:, 1:])
    torch.testing.assert_close(last, backbone.vit.norm(backbone.vit.blocks[2](x))[:, 1:])


def test_without_the_final_norm_the_last_tap_is_raw_and_no_norm_is_kept():
    backbone = tiny(final_norm=False)
    assert not [name for name, _ in backbone.named_parameters() if name.startswith("vit.norm.")]
    with_norm = tiny()
    with_norm.load_state_dict(backbone.state_dict(), strict=False)
    torch.testing.assert_close(
        with_norm.vit.norm(backbone(picture(64, 96)).taps[2]), with_norm(picture(64, 96)).taps[2]
    )


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("name", [VIT, DISTILLED])
def test_position_embeddings_are_resized_without_antialiasing_and_prefix_tokens_kept(name, mode):
    backbone = tiny(name, position_resize=mode)
    prefix = backbone.prefix_tokens
    resized = backbone.position_embedding((3, 5))
    assert resized.shape == (1, prefix + 15, 24)
    torch.testing.assert_close(resized[:, :prefix], backbone.vit.pos_embed[:, :prefix])
    grid = backbone.vit.pos_embed[:, prefix:].reshape(1, 4, 6, 24).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, (3, 5), mode=mode, align_corners=False, antialias=False)
    torch.testing.assert_close(resized[:, prefix:], expected.permute(0, 2, 3, 1).reshape(1, 15, 24))
    antialiased = F.interpolate(grid, (3, 5), mode=mode, align_corners=False, antialias=True)
    assert (antialiased - expected).abs().max() > 1e-3  # the choice is visible


@pytest.mark.parametrize("name", [VIT, DISTILLED, BEIT, HYBRID])
def test_other_sizes_than_the_built_one_work(name):
    backbone = tiny(name)
    tokens = backbone(picture(128, 64))
    assert tokens.grid == (128 // backbone.stride, 64 // backbone.stride)
    assert all(tap.shape == (2, tokens.grid[0] * tokens.grid[1], 24) for tap in tokens.taps)
    assert tokens.maps()[0].shape == (2, 24, *tokens.grid)


@pytest.mark.parametrize("name", [VIT, DISTILLED, BEIT])
def test_without_a_class_token_in_the_encoder_only_patches_are_attended(name):
    backbone = tiny(name, keep_class_token_in_encoder=False)
    before = backbone(picture(64, 96)).taps[-1]
    with torch.no_grad():
        backbone.vit.cls_token.add_(5.0)
    torch.testing.assert_close(backbone(picture(64, 96)).taps[-1], before)
    assert not backbone.vit.cls_token.requires_grad
    assert before.shape == (2, 24, 24)


@pytest.mark.parametrize("name", [VIT, BEIT])
def test_gradient_checkpointing_changes_no_gradient(name):
    gradients = []
    for checkpointing in (False, True):
        backbone = tiny(name, gradient_checkpointing=checkpointing).train()
        backbone(picture(64, 96)).taps[-1].square().mean().backward()
        gradients.append({n: p.grad for n, p in backbone.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_drop_path_acts_in_training_alone():
    backbone, images = tiny(drop_path_rate=0.5), picture(32, 32, batch=16)
    torch.manual_seed(0)
    assert torch.equal(backbone(images).taps[-1], backbone(images).taps[-1])
    backbone.train()
    assert not torch.equal(backbone(images).taps[-1], backbone(images).taps[-1])


def test_another_patch_size_and_norm_epsilon_are_taken():
    backbone = TokenBackbone("vit_small_patch16_384", (32, 32), (11,), patch_size=8, norm_eps=1e-5)
    assert (backbone.stride, backbone.grid, backbone.width, backbone.depth) == (8, (4, 4), 384, 12)
    assert backbone.vit.blocks[0].norm1.eps == backbone.vit.norm.eps == 1e-5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit_bass_patch16_384", {}, "vit_base_patch16_384"),
        ("resnet50", {}, "not a vision transformer"),
        (VIT, {"taps": (12,)}, "0 to 11"),
        (VIT, {"pretrained": True}, "no installed package ships weights"),
        (HYBRID, {"patch_size": 16}, "convolutional stem"),
        ("vit_base_patch14_reg4_dinov2", {}, "register tokens"),
    ],
)
def test_what_is_not_to_be_had_is_refused_in_one_line(name, options, message):
    with torch.device("meta"), pytest.raises(BackboneError, match=message) as error:
        TokenBackbone(name, (64, 64), options.pop("taps", (0,)), **options)
    assert "\n" not in str(error.value)


def test_an_image_that_is_no_whole_number_of_patches_is_refused_with_its_shape():
    with pytest.raises(ValueError, match=r"\(2, 3, 60, 96\).*multiples of 16"):
        tiny()(picture(60, 96))
