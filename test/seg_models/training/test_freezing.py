"""What of a backbone is kept from training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seg_models.training.freezing import fix_statistics, freeze_parts
from seg_models.training.recipe import RecipeError
from test.seg_models.tiny_models import tiny_model


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def test_the_first_parts_get_no_gradient_and_the_rest_does():
    model = tiny_model("superpixel_transformer")
    freeze_parts(model, 2)
    sum(model.loss(model(torch.rand(2, 3, 64, 96)), torch.zeros(2, 64, 96, dtype=torch.long)).values()).backward()
    parts = [part for part, _ in model.backbone.stages()]
    assert all(p.grad is None for part in parts[:2] for p in part.parameters())
    assert all(p.grad is not None for part in parts[2:] for p in part.parameters())
    assert model.queries.grad is not None


def test_norms_of_frozen_parts_keep_their_statistics():
    model = tiny_model("superpixel_transformer").train()
    fix_statistics(model, 2, all_norms=False)
    parts = [part for part, _ in model.backbone.stages()]
    frozen = [norm for part in parts[:2] for norm in norms(part)]
    assert frozen
    before = [norm.running_mean.clone() for norm in norms(model)]
    model(torch.rand(2, 3, 64, 96))
    for norm, mean in zip(norms(model), before, strict=True):
        is_frozen = any(norm is other for other in frozen)
        assert torch.equal(norm.running_mean, mean) == is_frozen


def test_all_norms_of_the_backbone_can_be_fixed():
    model = tiny_model("superpixel_transformer").train()
    fix_statistics(model, 0, all_norms=True)
    before = [norm.running_mean.clone() for norm in norms(model.backbone)]
    model(torch.rand(2, 3, 64, 96))
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms(model.backbone), before, strict=True))
    assert all(p.requires_grad for p in model.parameters())


def test_a_backbone_without_parts_or_with_fewer_is_refused():
    with pytest.raises(RecipeError, match="only a convolutional backbone has"):
        freeze_parts(tiny_model("linear"), 1)
    with pytest.raises(RecipeError, match=r"frozen_parts is 40; test_efficientnet has \d+, not all may be frozen"):
        freeze_parts(tiny_model("superpixel_transformer"), 40)
