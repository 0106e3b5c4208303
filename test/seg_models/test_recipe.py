"""Recipes: the shipped ones load, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg_models.recipe import RecipeError, read_recipe, recipe_from_dict

RECIPES = sorted((Path(__file__).parents[2] / "config/recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_shipped_recipes_load(path):
    assert read_recipe(path).name == path.stem


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
