"""Segmenter and the linear baseline: equal to the released decoders, the text's form, sizes, learning, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from seg_models.architectures.linear import LinearDecoder
from seg_models.architectures.segmenter import MaskTransformer, Segmenter
from seg_models.backbones.timm_models import BackboneError
from seg_models.build import ModelError, build_model
from seg_models.losses import IGNORE, cross_entropy

TINY = {"embed_dim": 24, "depth": 2, "num_heads": 2}
DECODERS = torch.load(Path(__file__).parents[2] / "data/segmenter_decoder.pt", weights_only=True)["cases"]


def tiny(classes: int = 5, size: tuple[int, int] = (32, 48), name: str = "segmenter", **options):
    torch.manual_seed(0)
    return build_model(name, "vit_tiny_patch16_224", classes, size, patch_size=8, timm_options=TINY, **options).eval()


def picture(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", ["decoder_mask", "decoder_mask_proj"])
def test_mask_transformer_equals_the_released_one(case):
    case = DECODERS[case]
    width = case["state_dict"]["cls_emb"].shape[2]
    decoder = MaskTransformer(
        case["config"]["d_encoder"], case["config"]["n_cls"], width, 2, case["config"]["n_heads"], 0.1, 0.0, "released"
    ).eval()
    decoder.load_state_dict(case["state_dict"])
    # Float32; sums run in another order than in the released code.
    torch.testing.assert_close(
        decoder(case["inputs"]["tokens"], (5, 6)), case["outputs"]["logits"], atol=1e-5, rtol=1e-5
    )


def test_linear_decoder_equals_the_released_one():
    case = DECODERS["decoder_linear"]
    decoder = LinearDecoder(case["config"]["d_encoder"], case["config"]["n_cls"])
    decoder.load_state_dict(case["state_dict"])
    torch.testing.assert_close(
        decoder(case["inputs"]["tokens"], (5, 6)), case["outputs"]["logits"], atol=1e-5, rtol=1e-5
    )


def test_papers_masks_are_equation_4_and_the_logits_their_logarithms():
    model = tiny(mask_form="paper", token_upsampling=2)
    assert isinstance(model, Segmenter)
    decoder = model.decoder
    tokens = torch.randn(2, 24, 24, generator=torch.Generator().manual_seed(2))
    masks = decoder(tokens, (4, 6))
    x = torch.cat([decoder.proj_dec(tokens), decoder.cls_emb.expand(2, -1, -1)], dim=1)
    for block in decoder.blocks:
        x = block(x)
    x = decoder.decoder_norm(x)
    expected = torch.einsum("bnd,bkd->bkn", x[:, :24], x[:, 24:]).div(24**0.5).softmax(dim=1)
    torch.testing.assert_close(masks.flatten(2), expected)
    logits = model(picture(32, 48)).logits
    # The masks sum to one before the upsampling and bilinear weights keep that.
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(2, 32, 48))
    assert not [name for name, _ in decoder.named_parameters() if name in ("proj_patch", "proj_classes")]


def test_token_upsampling_doubles_the_grid_that_the_decoder_sees():
    grids = []
    for factor in (1, 2):
        model = tiny(token_upsampling=factor)
        model.decoder.register_forward_hook(lambda _, inputs, __: grids.append((inputs[0].shape[1], inputs[1])))
        model(picture(32, 48))
    assert grids == [(24, (4, 6)), (96, (8, 12))]


@pytest.mark.parametrize("options", [{"decoder": "mask"}, {"decoder": "linear"}, {"name": "linear"}])
@pytest.mark.parametrize("size", [(32, 48), (40, 40), (37, 51)])
def test_any_input_size_gives_scores_of_that_size(options, size):
    assert tiny(**options)(picture(*size)).logits.shape == (2, 5, *size)


def test_padding_is_zeros_at_the_bottom_and_right_and_is_cut_off():
    model, image = tiny(), picture(37, 51)
    padded = model(F.pad(image, (0, 5, 0, 3))).logits
    torch.testing.assert_close(model(image).logits, padded[..., :37, :51])


def test_loss_is_the_mean_over_labelled_pixels_and_zero_without_any():
    logits = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.randint(0, 5, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    labels[0] = IGNORE
    torch.testing.assert_close(cross_entropy(logits, labels), F.cross_entropy(logits[1:], labels[1:]))
    torch.testing.assert_close(
        cross_entropy(logits, labels, count_unlabelled=True), F.cross_entropy(logits[1:], labels[1:]) / 2
    )
    nothing = cross_entropy(logits, torch.full_like(labels, IGNORE))
    nothing.backward()
    assert nothing.item() == 0
    assert logits.grad.abs().max() == 0


def test_wrong_channels_and_label_sizes_are_refused_with_their_shapes():
    model = tiny()
    with pytest.raises(ValueError, match=r"\(2, 4, 32, 48\); expected \(B, 3, H, W\)"):
        model(torch.zeros(2, 4, 32, 48))
    with pytest.raises(ValueError, match=r"scores of shape \(2, 5, 32, 48\) and labels of shape \(2, 48, 32\)"):
        model.loss(model(picture(32, 48)), torch.zeros(2, 48, 32, dtype=torch.long))


@pytest.mark.parametrize(
    "backbone", ["vit_base_patch32_384", "deit_base_distilled_patch16_384", "vit_small_patch8_224"]
)
def test_the_papers_backbones_build_with_its_epsilon_and_resizing(backbone):
    with torch.device("meta"):
        model = build_model("segmenter", backbone, 150, (512, 512))
    assert model.backbone.vit.norm.eps == model.backbone.vit.blocks[3].norm2.eps == 1e-5
    assert model.backbone.position_resize == "bilinear"
    assert model.stride == int(backbone.split("patch")[1].split("_")[0])


def test_normalisation_is_half_for_vit_and_imagenet_for_deit():
    with torch.device("meta"):
        vit = build_model("segmenter", "vit_base_patch16_384", 2, (64, 64))
        deit = build_model("segmenter", "deit_base_distilled_patch16_384", 2, (64, 64))
    assert vit.normalization == {"mean": [127.5] * 3, "std": [127.5] * 3}
    assert deit.normalization["mean"] == pytest.approx([123.675, 116.28, 103.53])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"decoder": "conv"}, ValueError, "mask, linear"),
        ({"mask_form": "text"}, ValueError, "released, paper"),
        ({"decoder_heads": 5}, ValueError, "multiple of decoder_heads 5"),
        ({"token_upsampling": 0}, ValueError, "expected 1 or more"),
        ({"classes": 0}, ValueError, "num_classes is 0"),
        ({"decoder_layer": 2}, ModelError, "decoder_layers"),
    ],
)
def test_bad_options_are_refused_with_what_was_expected(options, error, message):
    with pytest.raises(error, match=message):
        tiny(**options)


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ({"decoder": "linear"}, 0.1),
        ({"decoder": "cnn"}, 1.4),
        ({"decoder": "fa_cnn"}, 1.6),
        ({"decoder_layers": 1}, 9),
        ({}, 16),
        ({"decoder_layers": 3}, 23),
        ({"decoder_width": 384}, 4.2),
    ],
)
def test_decoders_have_the_parameters_of_table_11(options, printed):
    with torch.device("meta"):
        model = build_model("segmenter", "deit_base_distilled_patch16_384", 150, (512, 512), **options)
    millions = sum(p.numel() for p in model.decoder.parameters()) / 1e6
    assert round(millions, len(str(printed).partition(".")[2])) == printed


@pytest.mark.parametrize(("decoder", "taps"), [("cnn", (1,)), ("fa_cnn", (0, 1))])
def test_convolutional_decoders_score_at_four_times_the_tokens_grid_and_train(decoder, taps):
    model = tiny(decoder=decoder).train()
    assert model.backbone.taps == taps  # the low layer is the last of the first third, at least the first
    tokens, grid = model.backbone(picture(32, 48))
    assert model.decoder(tokens, grid).shape == (2, 5, 16, 24)
    labels = torch.ones(2, 30, 44, dtype=torch.int64)
    torch.stack(list(model.loss(model(picture(30, 44)), labels).values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.decoder.parameters())


def test_the_low_layer_of_the_fully_aggregated_decoder_can_be_chosen():
    assert tiny(decoder="fa_cnn", low_layer=1).backbone.taps == (1, 1)
    with pytest.raises(BackboneError, match="tap 9"):
        tiny(decoder="fa_cnn", low_layer=9)


def test_a_patch_that_is_classified_has_one_score_and_learns_its_histogram():
    """RegProxy, Table 1: without the bilinear upsampling the loss is that of eq. 1's soft labels."""
    model = tiny(name="linear", upsampling="nearest")
    with torch.no_grad():
        scores = model(picture(30, 44)).logits  # (2, 5, 30, 44), patches of 8
    assert torch.equal(scores[..., :8, :8], scores[..., :1, :1].expand(-1, -1, 8, 8))
    labels = torch.zeros(2, 32, 48, dtype=torch.int64)
    labels[:, :, 20:] = 3  # cuts the third column of patches in two
    with torch.no_grad():
        whole = model(picture(32, 48))
        loss = model.loss(whole, labels)["cross_entropy"]
    histograms = F.one_hot(labels, 5).unflatten(2, (6, 8)).unflatten(1, (4, 8)).double().mean((2, 4))  # (2, 4, 6, 5)
    patches = whole.logits[..., ::8, ::8].permute(0, 2, 3, 1).flatten(0, 2)
    torch.testing.assert_close(loss, F.cross_entropy(patches, histograms.flatten(0, 2).float()), atol=1e-6, rtol=1e-5)


def test_setrs_naive_head_is_two_1x1_convolutions():
    model = tiny(name="linear", hidden_width=7).train()
    kernels = [m.kernel_size for m in model.decoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert kernels == [(1, 1), (1, 1)]
    model.loss(model(picture(32, 48)), torch.ones(2, 32, 48, dtype=torch.int64))["cross_entropy"].backward()
    assert all(p.grad is not None for p in model.decoder.parameters())
    for options, message in (
        ({"hidden_width": 0}, "hidden_width is 0"),
        ({"upsampling": "area"}, "upsampling is 'area'"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny(name="linear", **options)
