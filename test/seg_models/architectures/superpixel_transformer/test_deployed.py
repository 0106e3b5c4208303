"""The folded Superpixel Transformer computes what the trained one does."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from seg_models.architectures.superpixel_transformer.model import SuperpixelTransformer
from seg_models.build import build_model
from seg_models.ops import neighbourhood as nb


def random_model(size=(64, 96), backbone="test_efficientnet", width=32, **options) -> SuperpixelTransformer:
    """A model none of whose weights is at a value that would hide a mistake: zero positions, norms of ones and zeros."""
    torch.manual_seed(0)
    model = build_model("superpixel_transformer", backbone, 5, size, width=width, **options)
    assert isinstance(model, SuperpixelTransformer)
    with torch.no_grad():
        for embedding in (model.queries, model.superpixel_position, model.pixel_position):
            embedding.normal_()
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.uniform_(0.5, 2.0)
                module.bias.normal_()
    return model.eval()


VARIANTS = {
    "robot": {"cross_attention_layers": 1, "self_attention_layers": 2},
    "paper": {},
    "three layers, four heads": {"cross_attention_layers": 3, "cross_attention_heads": 4, "self_attention_heads": 2},
    "one head": {"cross_attention_heads": 1},
    "no self-attention": {"self_attention_layers": 0, "cross_attention_layers": 1},
    "no cross-attention": {"cross_attention_layers": 0},
    "two strides, growing twice": {"pixel_stride": 4, "superpixel_stride": 16},
    "superpixels larger than the deepest stage": {"superpixel_stride": 64},
    "pixels as coarse as superpixels": {"pixel_stride": 32},
    "position on another grid": {"pixel_stride": 16},
    "narrower than a stage that grows": {"pixel_stride": 4, "superpixel_stride": 16, "width": 16},
    "hypercolumn of MLPs": {"hypercolumn": "mlp"},
    "scores as printed": {"scale_scores": False},
    "self-attention of means": {"superpixel_stride": 16, "self_attention_pool": 2},
    "blocks of cells": {"superpixel_stride": 16, "cross_attention_layers": 3, "cross_attention_heads": 4},
    "more superpixels than weights": {"superpixel_stride": 16, "size": (128, 192)},
    "blocks of cells of one pixel": {"superpixel_stride": 16, "pixel_stride": 16},
    "one block of cells": {"superpixel_stride": 16, "size": (32, 32)},
    "padded image": {"size": (70, 90)},
    "one superpixel": {"size": (32, 32)},
    "a row of superpixels": {"size": (32, 160)},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_folding_changes_nothing(options):
    model = random_model(**options).double()
    image = torch.randn(2, 3, *model.image_size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        expected, actual = model.associate_features(image), model.deployed().associate_features(image)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)  # float64: sums in another order, nothing else


def test_folding_agrees_in_float32():
    model = random_model(size=(128, 160), width=64).float()
    image = torch.randn(3, 3, 128, 160, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, actual = model.associate_features(image), model.deployed().associate_features(image)
    for ours, theirs in zip(actual, expected, strict=True):
        inside = theirs > nb.BORDER
        assert torch.equal(inside, ours > nb.BORDER)
        scale = theirs[inside].abs().max()
        torch.testing.assert_close(ours[inside] / scale, theirs[inside] / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [3e3, 3e6])
@pytest.mark.parametrize("stride", [32, 16])
def test_scores_that_differ_widely_between_cells_do_not_vanish(stride, factor):
    """A softmax that took its maximum from another superpixel's pixels, or from a hidden one, would divide zero by zero here."""
    model = random_model(cross_attention_layers=1, superpixel_stride=stride).double()
    with torch.no_grad():
        for mlp in (model.cross_attention[0].pixel_key, model.cross_attention[0].pixel_query):
            mlp[2].weight.mul_(factor)  # exp of less than -745 is 0 in float64
    image = torch.randn(1, 3, *model.image_size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        expected, actual = model.associate_features(image), model.deployed().associate_features(image)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_the_deployed_form_decides_as_the_trained_one_does():
    model = random_model(size=(70, 90)).double()
    image = torch.randn(2, 3, 70, 90, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    deployed = model.deployed()
    with torch.no_grad():
        expected, actual = model.decide(image), deployed.decide(image)
        logits = deployed(image).logits
    assert torch.equal(actual.labels, expected.labels)
    assert torch.equal(actual.superpixels, expected.superpixels)
    torch.testing.assert_close(actual.confidence, expected.confidence, rtol=0, atol=1e-9)  # float64
    assert torch.equal(logits.argmax(1), actual.labels)


def test_the_trained_model_stays_as_it_was_and_can_go_on_training():
    model = random_model().train()
    before = copy.deepcopy(model.state_dict())
    deployed = model.deployed()
    assert model.training
    assert model.backbone.training
    assert not deployed.training
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in deployed.parameters())
    with torch.no_grad():
        for values in (*deployed.parameters(), *deployed.buffers()):
            values.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_the_deployed_form_cannot_do_is_said():
    deployed = random_model().deployed()
    with pytest.raises(
        ValueError, match="image of 64x64; the deployed form takes 64x96 only, the trained model any size"
    ):
        deployed(torch.zeros(1, 3, 64, 64))


def test_its_loss_is_the_trained_models():
    model = random_model()
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(2, 3, *model.image_size, generator=generator)
    labels = torch.randint(0, 5, (2, *model.image_size), generator=generator)
    deployed = model.deployed()
    with torch.no_grad():
        expected, actual = model.loss(model(image), labels), deployed.loss(deployed(image), labels)
    torch.testing.assert_close(
        actual, expected, rtol=1e-4, atol=1e-4
    )  # float32: sums in another order, scores of around 10
