"""RegProxy: equal to the released head, its equations, the tables' options, sizes, learning, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from seg_models.architectures.regproxy.model import AffinityHead, RegProxy, mixed_regions, region_histogram
from seg_models.build import build_model
from seg_models.checkpoints.regproxy import convert_regproxy
from seg_models.losses import IGNORE, cross_entropy
from seg_models.ops import neighbourhood as nb
from seg_models.prediction import Prediction

TINY = {"embed_dim": 24, "depth": 4, "num_heads": 2}
HEADS = torch.load(Path(__file__).parents[3] / "data/regproxy_head.pt", weights_only=True)["cases"]


def tiny(classes: int = 5, size: tuple[int, int] = (64, 96), name: str = "vit_tiny_patch16_224", **options) -> RegProxy:
    torch.manual_seed(0)
    model = build_model("regproxy", name, classes, size, timm_options=TINY, **options)
    assert isinstance(model, RegProxy)
    return model.eval()


def picture(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def head_of(case: dict) -> RegProxy:
    """A model with the released head's weights; its backbone plays no part."""
    model = tiny(case["config"]["num_classes"], region_size=tuple(case["config"]["region_res"]))
    state = convert_regproxy({f"decode_head.{key}": value for key, value in case["state_dict"].items()})
    unexpected = model.load_state_dict(state, strict=False).unexpected_keys
    assert not unexpected
    return model


@pytest.mark.parametrize("case", HEADS)
def test_head_painting_and_loss_equal_the_released_ones(case):
    case = HEADS[case]
    model = head_of(case)
    middle, last, labels = case["inputs"]["mid"], case["inputs"]["last"], case["inputs"]["gt"][:, 0]
    rows, cols = middle.shape[2:]
    _, affinity, token_logits = model.head(
        middle.flatten(2).transpose(1, 2), [last.flatten(2).transpose(1, 2)], (rows, cols)
    )
    h, w = case["config"]["region_res"]
    expected = case["outputs"]["affinity"].permute(0, 4, 5, 2, 3, 1).flatten(3, 4)  # (B, 9, h, w, R, C) there
    # Float32; sums run in another order than in the released code.
    torch.testing.assert_close(affinity, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(token_logits.flatten(1, 2), case["outputs"]["token_logits"], atol=1e-5, rtol=1e-5)
    painted = nb.paint(affinity, token_logits, (h, w))
    torch.testing.assert_close(painted, case["outputs"]["logits"], atol=1e-5, rtol=1e-5)
    full = F.interpolate(painted, size=labels.shape[1:], mode="bilinear", align_corners=False)
    (loss,) = model.loss(Prediction(full), labels).values()
    torch.testing.assert_close(loss, case["outputs"]["loss"], atol=1e-5, rtol=1e-5)
    assert (labels == IGNORE).any()  # so the divisor of the mean was tested, too
    assert abs(cross_entropy(full, labels) - loss) > 1e-3


@pytest.mark.parametrize(("depthwise", "first"), [(True, 0.0241), (False, 0.0241), (None, None)])
def test_the_affinity_head_starts_as_the_authors_does(depthwise, first):
    """Deviations measured at the authors' start, width 384 and 4 x 4 pixels a region: 0.024, 0.072, 0.118."""
    torch.manual_seed(0)
    head = AffinityHead(384, (4, 4), depthwise)
    if first is not None:
        assert head.depthwise[0].weight.std().item() == pytest.approx(first, rel=0.05)  # 3,456 weights
    assert head.pointwise[0].weight.std().item() == pytest.approx(0.0722, rel=0.02)
    assert head.out.weight.std().item() == pytest.approx(0.1179, rel=0.02)
    assert not head.out.bias.any()


def test_association_sums_to_one_and_never_leaves_the_image():
    affinity = tiny()(picture(64, 96)).aux["affinity"]  # (2, 4, 6, 16, 9)
    torch.testing.assert_close(affinity.sum(-1), torch.ones(2, 4, 6, 16))
    assert affinity[:, 0, :, :, :3].abs().max() == 0  # top
    assert affinity[:, :, -1, :, 2::3].abs().max() == 0  # right
    assert affinity[:, 1:-1, 1:-1].min() > 0


def test_superpixels_are_the_argmax_of_the_association_at_image_size():
    model, image = tiny(region_size=(2, 2)), picture(64, 96)
    prediction = model(image)
    affinity = prediction.aux["affinity"]
    for y, x in [(0, 0), (17, 40), (63, 95), (33, 8)]:
        row, col = y // 16, x // 16
        choice = int(affinity[1, row, col, (y % 16 // 8) * 2 + x % 16 // 8].argmax())
        owner = (row + choice // 3 - 1) * 6 + col + choice % 3 - 1
        assert prediction.superpixels[1, y, x] == owner
    assert prediction.superpixels.shape == (2, 64, 96)
    assert model.superpixel_grid == (4, 6)
    assert model.train()(image).superpixels is None


@pytest.mark.parametrize("layers", [0, 1, 3, 4])
def test_affinity_comes_from_the_raw_stream_behind_m_layers(layers):
    model, image = tiny(token_head_layers=layers), picture(64, 96)
    vit = model.backbone
    x = vit.add_positions(*vit.embed(image))
    for block in vit.vit.blocks[:layers]:
        x = block(x)
    if layers == 4:  # the last tap alone has the norm
        x = vit.vit.norm(x)
    logits = model.affinity_head(x[:, 1:].transpose(1, 2).unflatten(2, (4, 6)))
    torch.testing.assert_close(model(image).aux["affinity"], nb.association(nb.mask_border(logits)))


@pytest.mark.parametrize(
    ("backbone", "options", "taps"),
    [
        ("vit_tiny_patch16_384", {}, (4, 11)),
        ("vit_large_patch16_384", {}, (9, 23)),
        ("deit_base_distilled_patch16_384", {"token_head_layers": 3}, (2, 11)),
        ("vit_small_r26_s32_384", {}, (-1, 11)),
        ("vit_large_r50_s32_384", {}, (-1, 23)),
        ("vit_small_patch16_384", {"multi_level": True}, (4, 5, 8, 11)),
    ],
)
def test_taps_are_the_released_ones(backbone, options, taps):
    with torch.device("meta"):
        assert build_model("regproxy", backbone, 150, (512, 512), **options).backbone.taps == taps


@pytest.mark.parametrize("region", [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (4, 2)])
def test_any_region_size_gives_scores_at_image_size(region):
    prediction = tiny(region_size=region)(picture(64, 96))
    assert prediction.logits.shape == (2, 5, 64, 96)
    assert prediction.aux["affinity"].shape == (2, 4, 6, region[0] * region[1], 9)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "vit_small_r26_s32_384"])
def test_any_image_size_is_padded_and_cut(name):
    model, image = tiny(name=name), picture(50, 70)
    prediction = model(image)
    padded = model(F.pad(image, (0, -70 % model.stride, 0, -50 % model.stride)))
    torch.testing.assert_close(prediction.logits, padded.logits[..., :50, :70])
    assert torch.equal(prediction.superpixels, padded.superpixels[:, :50, :70])


def test_multi_level_features_are_joined_in_order():
    model, image = tiny(multi_level=True), picture(64, 96)
    assert model.backbone.taps == (1, 1, 2, 3)
    assert model.classifier.in_features == 72
    levels = model.backbone(image).taps[1:]
    expected = model.classifier(torch.cat(levels, -1)).unflatten(1, (4, 6))
    prediction = model(image)
    painted = nb.paint(prediction.aux["affinity"], expected, (4, 4))
    torch.testing.assert_close(
        prediction.logits, F.interpolate(painted, size=(64, 96), mode="bilinear", align_corners=False)
    )


def test_region_histogram_is_the_loop_of_equation_11():
    generator = torch.Generator().manual_seed(3)
    rows, cols, region, stride = 3, 2, (2, 2), 4
    logits = torch.randn(1, rows, cols, 4, 9, generator=generator, dtype=torch.float64)
    affinity = nb.association(nb.mask_border(logits))
    labels = torch.randint(0, 3, (1, rows * stride, cols * stride), generator=generator)
    labels[0, :3, :3] = IGNORE
    expected = torch.zeros(rows, cols, 3, dtype=torch.float64)
    for y in range(rows * stride):
        for x in range(cols * stride):
            if labels[0, y, x] == IGNORE:
                continue
            row, col = y // stride, x // stride
            pixel = (y % stride // 2) * 2 + x % stride // 2
            for k, (dy, dx) in enumerate(nb.OFFSETS):
                if 0 <= row + dy < rows and 0 <= col + dx < cols:
                    # A quarter: each 2x2 pixels of the image make one output pixel.
                    expected[row + dy, col + dx, labels[0, y, x]] += affinity[0, row, col, pixel, k] / 4
    torch.testing.assert_close(region_histogram(affinity, labels, 3, region, stride)[0], expected)


def test_regulariser_is_zero_for_pure_regions_largest_for_even_mixtures_and_off_by_default():
    pure, mixed = torch.tensor([[[[4.0, 0.0]]]]), torch.tensor([[[[2.0, 2.0]]]])
    empty = torch.zeros(1, 1, 1, 2)
    assert mixed_regions(pure).item() == pytest.approx(0, abs=1e-6)
    assert mixed_regions(mixed).item() == pytest.approx(1 - 0.5**0.5)
    assert mixed_regions(torch.cat([mixed, empty], dim=2)).item() == pytest.approx(1 - 0.5**0.5)
    assert mixed_regions(empty).item() == 0
    # As printed, the norm itself: largest where regions are pure.
    assert mixed_regions(torch.cat([pure, empty], dim=2), "norm").item() == pytest.approx(1)
    assert mixed_regions(mixed, "norm").item() == pytest.approx(0.5**0.5)
    assert mixed_regions(empty, "norm").item() == 0
    labels = torch.zeros(2, 64, 96, dtype=torch.long)
    labels[:, :, 40:] = 1
    assert set(tiny().loss(tiny()(picture(64, 96)), labels)) == {"cross_entropy"}
    printed = tiny(region_regularizer=0.5, regularizer_form="norm").train()
    assert 0.25 < printed.loss(printed(picture(64, 96)), labels)["region_regularizer"].item() <= 0.5
    with pytest.raises(ValueError, match="regularizer_form is 'l2'; expected one of purity, norm"):
        tiny(regularizer_form="l2")
    model = tiny(region_regularizer=0.5).train()
    terms = model.loss(model(picture(64, 96)), labels)
    assert 0 < terms["region_regularizer"].item() < 0.5
    terms["region_regularizer"].backward()
    gradient = model.affinity_head.out.weight.grad
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize(("conv", "size"), [("depthwise", 24 * 9), ("full", 24 * 24 * 9), ("none", 0)])
def test_table_9_convolutions_of_the_affinity_head(conv, size):
    head = tiny(affinity_conv=conv).affinity_head
    assert sum(p.numel() for m in head.depthwise if isinstance(m, torch.nn.Conv2d) for p in m.parameters()) == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_head_layers": 5}, "expected 0 to 4"),
        ({"region_size": (0, 4)}, "1 to 16 pixels"),
        ({"region_size": (4, 17)}, "1 to 16 pixels"),
        ({"affinity_conv": "dense"}, "depthwise, full, none"),
        ({"classes": 0}, "num_classes is 0"),
    ],
)
def test_bad_options_are_refused_with_what_was_expected(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)
