"""Rows of the papers' tables: every one is a recipe whose model is built and takes a step on miniature data."""

from __future__ import annotations

import collections
import dataclasses
import math
from pathlib import Path

import pytest
import torch

from seg_models.build import model_from_recipe
from seg_models.data.loaders import loaders
from seg_models.normalization import normalize
from seg_models.train import main
from seg_models.training.optimization import check_optimization, make_optimizer, make_scheduler
from seg_models.training.recipe import Recipe, RecipeError, read_recipe
from seg_models.training.rows import read_rows
from test.seg_models.data.test_folder import write_folder
from test.seg_models.miniature import miniature

FOLDER = Path(__file__).parents[3] / "config/recipes/rows"
FILES = sorted(FOLDER.glob("*.yaml"))
ROWS = [(path, name) for path in FILES for name in read_rows(path).printed]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four images to train on and two to validate on, 24 x 32 pixels, three classes."""
    made = tmp_path_factory.mktemp("data")
    write_folder(made, 4)
    write_folder(made, 2, "val")
    return made


@pytest.fixture(scope="module")
def taken() -> dict[str, dict[str, float]]:
    """Losses of the steps that were taken, by the recipe."""
    return {}


def step(recipe: Recipe) -> dict[str, float]:
    """Losses of the first step of a training, which changes every weight group that it should."""
    torch.manual_seed(recipe.seed)
    train, _, table = loaders(recipe)
    model = model_from_recipe(recipe, len(table.names), pretrained=False).train()
    optimizer = make_optimizer(model, recipe.optimizer)
    make_scheduler(optimizer, recipe.schedule)
    images, labels = next(iter(train))
    losses = model.loss(model(normalize(images, model.normalization)), labels)
    torch.stack(list(losses.values())).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())
    return {name: float(value.detach()) for name, value in losses.items()}


@pytest.mark.parametrize(("path", "name"), ROWS, ids=[f"{path.stem}: {name}" for path, name in ROWS])
def test_every_row_builds_its_model_and_takes_a_step(path, name, folder, taken):
    whole = read_recipe(path, row=name)
    check_optimization(whole.optimizer, whole.schedule)
    assert whole.data.description.startswith({"cityscapes": "City", "folder": ""}.get(whole.data.kind, ""))
    small = read_recipe(path, miniature(whole, folder), name)
    key = repr(dataclasses.replace(small, name="", data=dataclasses.replace(small.data, description="")))
    if key not in taken:  # papers repeat rows from table to table
        taken[key] = step(small)
    assert taken[key]
    assert all(math.isfinite(value) for value in taken[key].values())


@pytest.mark.parametrize("path", sorted(FOLDER.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_builds_its_model_and_takes_a_step(path, folder, taken):
    small = read_recipe(path, miniature(read_recipe(path), folder))
    key = repr(dataclasses.replace(small, name="", data=dataclasses.replace(small.data, description="")))
    if key not in taken:
        taken[key] = step(small)
    assert all(math.isfinite(value) for value in taken[key].values())


def test_no_two_rows_leave_their_runs_in_one_folder():
    files = {path: read_rows(path) for path in FILES}
    names = collections.Counter(files[path].content(name)["name"].lower() for path, name in ROWS)
    assert [name for name, count in names.items() if count > 1] == []


def test_rows_that_differ_in_the_paper_differ_here():
    """Rows of one table with other figures are other recipes; what a table repeats may be the same."""
    for path in FILES:
        rows = read_rows(path)
        seen: dict[str, str] = {}
        for name in rows.printed:
            content = rows.content(name) | {"name": ""}
            figure, start = str(rows.rows[name]["printed"]), rows.rows[name].get("start", "")
            table = name.split()[0]
            key = f"{table} {start} {sorted(map(str, content.items()))}"
            assert seen.setdefault(key, figure) == figure, f"{path.name}: {name}"


def test_a_row_is_what_it_extends_in_order_and_then_what_it_says(tmp_path):
    (tmp_path / "base.yaml").write_text("name: b\nmodel: {backbone: a, options: {x: 1, y: 2}}\nseed: 1\n")
    path = tmp_path / "rows.yaml"
    path.write_text(
        "paper: P\nrows:\n  first: {extends: base.yaml, seed: 2, model.options.x: 3}\n  part: {seed: 4, data.workers: 0}\n"
        "  last T1: {extends: [first, part], model.options: {z: 5}, printed: 1.0}\n"
        "  loop: {extends: loop, printed: 1}\n  alone: {seed: 1, printed: 2}\n"
    )
    recipe = read_recipe(path, ["data.workers=3"], "last T1")
    assert (recipe.name, recipe.seed, recipe.model.backbone) == ("rows_last-T1", 4, "a")
    assert (recipe.model.options, recipe.data.workers) == ({"z": 5}, 3)
    assert read_rows(path).printed == ["last T1", "loop", "alone"]
    for row, message in (
        ("lost T1", "has no row 'lost T1'; near ones: last T1"),
        ("part", "it is a part of others"),
        ("loop", "or itself"),
        ("alone", "extends no recipe"),
    ):
        with pytest.raises(RecipeError, match=message) as error:
            read_recipe(path, row=row)
        assert str(error.value).startswith(str(path))


def test_a_file_of_rows_and_a_recipe_are_told_apart(tmp_path, capsys):
    assert main(["--config", str(FILES[0])]) == 2
    assert "choose one with --row, such as 'T1 ViT-Ti/16, superpixels'" in capsys.readouterr().err
    assert main(["--config", str(FOLDER.parent / "regproxy_ade20k_vit_s16.yaml"), "--row", "T1"]) == 2
    assert "holds no rows" in capsys.readouterr().err


def test_a_row_is_trained_by_the_command(folder, tmp_path):
    path = FOLDER / "rsseg.yaml"
    name = "T6 query-to-region alone"
    small = miniature(read_recipe(path, row=name), folder)
    assert main(["--config", str(path), "--row", name, "--out", str(tmp_path / "run"), *small]) == 0
    assert (tmp_path / "run/last.ckpt").is_file()
