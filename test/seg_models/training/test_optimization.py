"""Optimisers, their parameter groups and schedules, as recipes ask for them."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import pytest
import torch

from seg_models.build import build_model
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.optimization import (
    check_optimization,
    learning_rate_factor,
    make_optimizer,
    make_scheduler,
    parameter_groups,
)
from seg_models.training.recipe import OptimizerRecipe, RecipeError, ScheduleRecipe

TINY_VIT = {"timm_options": {"embed_dim": 32, "depth": 3, "num_heads": 2}}


@cache
def tiny(name: str, backbone: str) -> SegmentationModel:
    """A small model without memory."""
    options = {} if name == "superpixel_transformer" else TINY_VIT
    if name == "rsseg":
        options = options | {"sampled_blocks": (0, 1)}
    with torch.device("meta"):
        return build_model(name, backbone, 5, (64, 64), **options)


def settings(**changes) -> OptimizerRecipe:
    """One rate for everything and weight decay 0.01 on everything, but for the changes."""
    return OptimizerRecipe(**({"lr": 1.0, "weight_decay": 0.01, "backbone_lr_scale": 1.0, "no_decay": []} | changes))


def by_name(model: SegmentationModel, recipe: OptimizerRecipe) -> dict[str, tuple[float, bool]]:
    """Learning rate of each trainable parameter, and whether it has weight decay."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"] > 0)
        for group in parameter_groups(model, recipe)
        for parameter in group["params"]
    }


def without_decay(model: SegmentationModel, *rules: str) -> set[str]:
    """Names of the parameters that the rules free of weight decay."""
    return {name for name, (_, decays) in by_name(model, settings(no_decay=list(rules))).items() if not decays}


def test_every_trainable_parameter_is_in_one_group():
    model = tiny("segvit", "vit_tiny_patch16_224")
    groups = parameter_groups(model, settings(no_decay=["vectors"], head_lr_scale=10.0))
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped))
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(by_name(model, settings())) == trainable
    assert "backbone.vit.cls_token" not in trainable  # frozen by the model
    assert len(groups) == 4


def test_superpixel_transformer_by_default_decays_neither_vectors_nor_learned_grids():
    model = tiny("superpixel_transformer", "test_efficientnet")
    groups = parameter_groups(model, OptimizerRecipe())
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {
        (1e-4, 0.05),
        (1e-4, 0.0),
        (1e-3, 0.05),
        (1e-3, 0.0),
    }
    free = without_decay(model, *OptimizerRecipe().no_decay)
    assert {"queries", "classifier.bias"} <= free
    assert "classifier.weight" not in free
    for name, parameter in model.named_parameters():
        assert (name in free) == (parameter.ndim <= 1 or parameter.shape[0] == 1), name


def test_regproxys_rules_free_norms_positions_and_tokens_of_the_backbone_alone():
    model = tiny("regproxy", "deit_tiny_distilled_patch16_224")
    free = without_decay(model, "backbone_norms", "position_embeddings", "class_tokens")
    norms = {f"backbone.vit.blocks.{i}.norm{n}.{kind}" for i in range(3) for n in (1, 2) for kind in ("weight", "bias")}
    norms |= {"backbone.vit.norm.weight", "backbone.vit.norm.bias"}
    assert free == norms | {"backbone.vit.pos_embed", "backbone.vit.cls_token", "backbone.vit.dist_token"}


def test_regproxys_rules_free_the_group_norms_of_a_hybrids_stem():
    with torch.device("meta"):
        model = build_model("regproxy", "vit_small_r26_s32_224", 5, (64, 64))
    free = without_decay(model, "backbone_norms")
    assert "backbone.vit.patch_embed.backbone.stem.norm.weight" in free
    assert "backbone.vit.patch_embed.backbone.stem.conv.weight" not in free
    assert {name for name, _ in model.named_parameters() if ".norm" in name} == free


def test_segvits_rules_scale_the_head_and_decay_its_norms():
    model = tiny("segvit", "vit_tiny_patch16_224")
    found = by_name(model, settings(lr=2e-5, head_lr_scale=10.0, no_decay=["backbone_norms"]))
    for name, (lr, decays) in found.items():
        assert lr == pytest.approx(2e-5 if name.startswith("backbone.") else 2e-4), name
        assert decays == (not (name.startswith("backbone.") and ".norm" in name)), name
    other_side = by_name(model, settings(lr=2e-4, backbone_lr_scale=0.1, no_decay=["backbone_norms"]))
    assert other_side == {name: (pytest.approx(lr), decays) for name, (lr, decays) in found.items()}


def test_a_longer_start_of_a_name_wins_and_replaces_the_other_scales():
    model = tiny("rsseg", "vit_tiny_patch16_224")
    scales = {"decoder.": 1.0, "decoder.queries": 0.5, "backbone.vit.norm": 2.0}
    found = by_name(model, settings(backbone_lr_scale=0.1, head_lr_scale=10.0, lr_scales=scales))
    assert found["decoder.attention.query.weight"][0] == 1.0
    assert found["decoder.queries"][0] == 0.5
    assert found["backbone.vit.norm.weight"][0] == 2.0
    assert found["backbone.vit.pos_embed"][0] == pytest.approx(0.1)
    assert found["mask_norm.weight"][0] == 10.0


def test_the_rate_decays_from_block_to_block_as_in_beit():
    found = by_name(tiny("rsseg", "vit_tiny_patch16_224"), settings(head_lr_scale=10.0, layer_lr_decay=0.5))
    expected = {
        "backbone.vit.cls_token": 1 / 16,
        "backbone.vit.pos_embed": 1 / 16,
        "backbone.vit.patch_embed.proj.weight": 1 / 16,
        "backbone.vit.blocks.0.norm1.weight": 1 / 8,
        "backbone.vit.blocks.2.mlp.fc1.weight": 1 / 2,
        "backbone.vit.norm.weight": 1,
        "mask_norm.weight": 10,
    }
    assert {name: found[name][0] for name in expected} == expected


def test_optimisers_are_the_papers():
    model = tiny("segmenter", "vit_tiny_patch16_224")
    sgd = make_optimizer(model, settings(name="sgd", lr=1e-3, weight_decay=0.0))
    assert isinstance(sgd, torch.optim.SGD)
    assert {(g["lr"], g["momentum"], g["nesterov"], g["weight_decay"]) for g in sgd.param_groups} == {
        (1e-3, 0.9, True, 0.0)
    }
    adamw = make_optimizer(model, settings())
    assert isinstance(adamw, torch.optim.AdamW)
    assert {(g["betas"], g["weight_decay"]) for g in adamw.param_groups} == {((0.9, 0.999), 0.01)}


def test_a_schedule_behind_its_warm_up_has_the_remaining_steps():
    """The Superpixel Transformer's form, and that of the shipped model: the numbers written out."""
    factor = learning_rate_factor(ScheduleRecipe(steps=110, warmup_steps=10, power=0.9), 6e-4)
    for step in range(120):
        if step < 10:
            assert factor(step) == (step + 1) / 11
        else:
            assert factor(step) == max(0.0, 1 - (step - 10) / 100) ** 0.9
    assert factor(10) == 1
    assert factor(110) == 0


def test_a_schedule_under_its_warm_up_runs_from_the_first_step():
    factor = learning_rate_factor(ScheduleRecipe(steps=160_000, warmup_steps=1500, warmup="over", power=1.0), 6e-5)
    assert factor(0) == pytest.approx(1e-6)
    assert factor(750) == pytest.approx((1 - 750 / 160_000) / 2, rel=1e-5)
    assert factor(1500) == 1 - 1500 / 160_000
    assert factor(80_000) == 0.5
    assert factor(160_000) == 0


def test_every_group_ends_at_the_same_lowest_rate():
    schedule = ScheduleRecipe(steps=100, warmup_steps=0, power=0.9, min_lr=1e-5)
    for lr in (1e-3, 1e-4):
        factor = learning_rate_factor(schedule, lr)
        assert factor(0) == 1
        assert lr * factor(50) == pytest.approx((lr - 1e-5) * 0.5**0.9 + 1e-5)
        assert lr * factor(100) == pytest.approx(1e-5)
    assert learning_rate_factor(schedule, 1e-6)(50) == 1  # a rate below the lowest is not raised
    assert learning_rate_factor(schedule, 0.0)(50) * 0.0 == 0


def test_cosine_restarts_run_under_the_warm_up():
    schedule = ScheduleRecipe(
        "cosine_restarts", 80_000, 1500, "over", periods=[10_000, 20_000, 50_000], weights=[1.0, 0.5, 0.25]
    )
    factor = learning_rate_factor(schedule, 6e-5)
    assert factor(750) == pytest.approx(0.5 * 0.5 * (1 + math.cos(math.pi * 0.075)), rel=1e-5)
    assert factor(5_000) == pytest.approx(0.5)
    assert (factor(10_000), factor(30_000)) == (0.5, 0.25)
    assert factor(79_999) == pytest.approx(0, abs=1e-8)


def test_the_optimiser_follows_the_schedule_group_by_group():
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD([{"params": [model.weight], "lr": 1.0}, {"params": [model.bias], "lr": 0.1}], lr=1.0)
    scheduler = make_scheduler(optimizer, ScheduleRecipe(steps=4, warmup_steps=0, power=1.0, min_lr=0.05))
    rates = []
    for _ in range(5):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert rates == [
        pytest.approx(pair)
        for pair in zip((1, 0.7625, 0.525, 0.2875, 0.05), (0.1, 0.0875, 0.075, 0.0625, 0.05), strict=True)
    ]


RESTARTS = {"name": "cosine_restarts", "steps": 30, "warmup_steps": 0, "periods": [10, 20], "weights": [1.0, 0.5]}


@pytest.mark.parametrize(
    ("optimizer", "schedule", "message"),
    [
        ({"name": "adam"}, {}, "optimizer.name is 'adam'; did you mean: adamw"),
        ({"name": "lion"}, {}, "optimizer.name is 'lion'; did you mean: adamw, sgd"),
        ({}, {"name": "polynomal"}, "schedule.name is 'polynomal'; did you mean: polynomial"),
        ({}, {"warmup": "under"}, "schedule.warmup is 'under'; did you mean: before, over"),
        ({"no_decay": ["vector"]}, {}, "optimizer.no_decay is 'vector'; did you mean: vectors"),
        ({"lr": 0.0}, {}, "optimizer.lr is 0; expected a number above 0"),
        ({"lr": float("nan")}, {}, "optimizer.lr is nan"),
        ({"lr": float("inf")}, {}, "optimizer.lr is inf"),
        ({"weight_decay": -0.1}, {}, "optimizer.weight_decay is -0.1; expected a number at least 0"),
        ({"backbone_lr_scale": -1.0}, {}, "optimizer.backbone_lr_scale is -1"),
        ({"head_lr_scale": -1.0}, {}, "optimizer.head_lr_scale is -1"),
        ({"lr_scales": {"decoder.": -1.0}}, {}, "optimizer.lr_scales.decoder. is -1"),
        ({"layer_lr_decay": 1.1}, {}, "layer_lr_decay is 1.1; expected a number above 0 and at most 1"),
        ({"momentum": 1.0}, {}, "optimizer.momentum is 1; expected a number at least 0 and below 1"),
        ({"clip_grad_norm": -1.0}, {}, "optimizer.clip_grad_norm is -1"),
        ({"name": "sgd", "momentum": 0.0}, {}, "nesterov needs a momentum above 0"),
        ({}, {"steps": 0}, "schedule.steps is 0; expected a number above 0"),
        ({}, {"warmup_steps": -1}, "schedule.warmup_steps is -1"),
        ({}, {"steps": 100, "warmup_steps": 101}, "warmup_steps is 101, more than the 100 of schedule.steps"),
        ({}, {"warmup_start_ratio": 2.0}, "warmup_start_ratio is 2; expected a number at least 0 and at most 1"),
        ({}, {"power": -1.0}, "schedule.power is -1"),
        ({}, {"min_lr": -1.0}, "schedule.min_lr is -1"),
        ({"lr": 1e-3}, {"min_lr": 0.01}, "schedule.min_lr is 0.01, above optimizer.lr, 0.001"),
        ({}, {"periods": [10]}, "are of cosine_restarts; schedule.name is 'polynomial'"),
        ({}, RESTARTS | {"weights": [1.0]}, "2 periods and 1 weights; expected at least one period, and one weight a"),
        ({}, RESTARTS | {"periods": [], "weights": []}, "0 periods and 0 weights"),
        ({}, RESTARTS | {"periods": [0, 30]}, r"schedule.periods\[0\] is 0; expected a number above 0"),
        ({}, RESTARTS | {"weights": [1.0, -0.5]}, r"schedule.weights\[1\] is -0.5"),
        ({}, RESTARTS | {"steps": 31}, "periods add up to 30 of 31 steps"),
        ({}, RESTARTS | {"min_lr": 1e-5}, "schedule.min_lr is of polynomial"),
    ],
)
def test_what_cannot_be_run_is_named_in_one_line(optimizer, schedule, message):
    with pytest.raises(RecipeError, match=message) as error:
        check_optimization(OptimizerRecipe(**optimizer), ScheduleRecipe(**schedule))
    assert "\n" not in str(error.value)


def test_what_can_be_run_passes():
    check_optimization(OptimizerRecipe(), ScheduleRecipe())
    check_optimization(OptimizerRecipe(name="sgd", backbone_lr_scale=0.0), ScheduleRecipe(**RESTARTS))
    shorter = dataclasses.replace(ScheduleRecipe(**RESTARTS), steps=5)  # a try-out of the first steps
    check_optimization(OptimizerRecipe(), shorter)


def test_scales_for_parameters_that_do_not_exist_are_named():
    model = tiny("segvit", "vit_tiny_patch16_224")
    with pytest.raises(RecipeError, match=r"no parameter starts with 'decode_head'; there are: decoder"):
        parameter_groups(model, settings(lr_scales={"decode_head": 10.0}))
    with pytest.raises(
        RecipeError, match="only a plain transformer's backbone can have; the model's is a ConvBackbone"
    ):
        parameter_groups(tiny("superpixel_transformer", "test_efficientnet"), settings(layer_lr_decay=0.9))
    with pytest.raises(RecipeError, match=r"optimizer.no_decay is 'norms'; did you mean"):
        parameter_groups(model, settings(no_decay=["norms"]))
