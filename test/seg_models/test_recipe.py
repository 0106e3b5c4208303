"""Recipes: the shipped ones load, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seg_models.data.loaders import augmentation
from seg_models.data.transforms import RandomScaleCropFlip
from seg_models.optimization import NO_DECAY, check_optimization, make_optimizer, make_scheduler
from seg_models.recipe import RecipeError, read_recipe, recipe_from_dict
from seg_models.train import model_from_recipe

RECIPES = sorted((Path(__file__).parents[2] / "config/recipes").glob("*.yaml"))
CLASSES = {"ade20k": 150, "cityscapes": 19, "rooms": 16}

# Of each paper's recipe: optimiser, images a step, steps, and (rate, weight decay) of the groups, as published.
PUBLISHED = {
    "segmenter_ade20k_vit_l16": (torch.optim.SGD, 8, 160_000, {(1e-3, 0.0)}),
    "regproxy_ade20k_vit_s16": (torch.optim.AdamW, 16, 160_000, {(6e-5, 0.01), (6e-5, 0.0)}),
    "regproxy_cityscapes_vit_b16": (torch.optim.AdamW, 16, 80_000, {(6e-5, 0.01), (6e-5, 0.0)}),
    "segvit_ade20k_vit_l16": (torch.optim.AdamW, 16, 160_000, {(2e-5, 0.01), (2e-5, 0.0), (2e-4, 0.01)}),
    "segvit_shrunk_ade20k_vit_l16": (torch.optim.AdamW, 16, 160_000, {(2e-5, 0.01), (2e-5, 0.0), (2e-4, 0.01)}),
    "rsseg_cityscapes_cswin_s": (torch.optim.AdamW, 8, 160_000, {(6e-5, 0.01), (6e-5, 0.0), (6e-4, 0.01)}),
    "spt_cityscapes_resnet50": (torch.optim.AdamW, 32, 60_000, {(1e-4, 0.05), (1e-4, 0.0), (1e-3, 0.05), (1e-3, 0.0)}),
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_shipped_recipes_give_a_model_an_optimiser_a_schedule_and_an_augmentation(path):
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert isinstance(augmentation(recipe), RandomScaleCropFlip)
    check_optimization(recipe.optimizer, recipe.schedule)
    (data,) = (Path(root).name for root in recipe.data.roots)
    with torch.device("meta"):
        model = model_from_recipe(recipe, CLASSES[data], pretrained=False)
    optimizer = make_optimizer(model, recipe.optimizer)
    scheduler = make_scheduler(optimizer, recipe.schedule)
    highest = [group["initial_lr"] for group in optimizer.param_groups]
    assert all(0 < group["lr"] <= top for group, top in zip(optimizer.param_groups, highest, strict=True))
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(trainable)
    for at_end in scheduler.lr_lambdas:  # type: ignore[attr-defined]
        assert at_end(recipe.schedule.steps) == pytest.approx(recipe.schedule.min_lr / recipe.optimizer.lr)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_recipes_have_the_published_numbers(name):
    kind, batch, steps, groups = PUBLISHED[name]
    recipe = read_recipe(next(path for path in RECIPES if path.stem == name))
    assert (recipe.data.batch_size * recipe.trainer.devices, recipe.schedule.steps) == (batch, steps)
    with torch.device("meta"):
        model = model_from_recipe(recipe, 150, pretrained=False)
    optimizer = make_optimizer(model, recipe.optimizer)
    assert type(optimizer) is kind
    assert {(round(group["lr"], 12), group["weight_decay"]) for group in optimizer.param_groups} == groups


def test_rsseg_on_a_plain_transformer_has_beits_rates_from_block_to_block():
    recipe = read_recipe(next(path for path in RECIPES if path.stem == "rsseg_ade20k_vit_b16"))
    with torch.device("meta"):
        model = model_from_recipe(recipe, 150, pretrained=False)
    rates = {
        id(parameter): group["lr"]
        for group in make_optimizer(model, recipe.optimizer).param_groups
        for parameter in group["params"]
    }
    assert rates[id(model.backbone.vit.pos_embed)] == pytest.approx(2e-5 * 0.9**13)
    assert rates[id(model.backbone.vit.blocks[11].mlp.fc1.weight)] == pytest.approx(2e-5 * 0.9)
    assert rates[id(model.decoder.queries)] == rates[id(model.overlapped_embedding.weight)] == 2e-5
    assert rates[id(model.path.blocks[0].high_pass.weight)] == rates[id(model.mask_norm.weight)] == pytest.approx(2e-4)


def test_the_documentation_names_every_recipe_and_every_rule_for_weight_decay():
    text = (RECIPES[0].parents[2] / "docs/training.md").read_text(encoding="utf-8")
    assert [path.stem for path in RECIPES if f"`{path.stem}`" not in text] == []
    assert [rule for rule in NO_DECAY if f"`{rule}`" not in text] == []


def test_overrides_replace_nested_values(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("name: x\nmodel: {options: {width: 64}}\n")
    recipe = read_recipe(path, ["schedule.steps=7", "optimizer.lr=1e-2", "data.roots=[a, b]", "model.options.width=32"])
    assert (recipe.schedule.steps, recipe.optimizer.lr, recipe.data.roots) == (7, 0.01, ["a", "b"])
    assert recipe.model.options == {"width": 32}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"modle": {}}, "no field 'modle'; did you mean: model"),
        ({"data": {"batchsize": 4}}, "recipe.data has no field 'batchsize'; did you mean: batch_size"),
        ({"data": {"batch_size": "many"}}, "recipe.data.batch_size is 'many'; expected int"),
        ({"data": {"batch_size": True}}, "recipe.data.batch_size is True; expected int"),
        ({"model": 3}, "recipe.model is 3; expected a mapping"),
        ({"model": {"image_size": [384, "x"]}}, r"image_size\[1\] is 'x'; expected int"),
        (
            {"optimizer": {"lr_scales": {"decoder.": "fast"}}},
            "recipe.optimizer.lr_scales.decoder. is 'fast'; expected float",
        ),
        ({"optimizer": {"lr_scales": [1.0]}}, r"recipe.optimizer.lr_scales is \[1.0\]; expected dict"),
        ({"optimizer": {"no_decay": "vectors"}}, "recipe.optimizer.no_decay is 'vectors'; expected list"),
    ],
)
def test_mistakes_are_named(content, message):
    with pytest.raises(RecipeError, match=message):
        recipe_from_dict(content)


def test_a_missing_recipe_and_a_bad_override_are_named(tmp_path):
    with pytest.raises(RecipeError, match="no recipe at"):
        read_recipe(tmp_path / "absent.yaml")
    with pytest.raises(RecipeError, match="has no '='"):
        read_recipe(RECIPES[0], ["steps"])
