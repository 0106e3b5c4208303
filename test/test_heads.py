"""The benchmark of heads: trained by its recipes, timed through the node's own way of inference, drawn."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import heads
from seg_models.training.recipe import read_recipe
from test.seg_models.data.test_folder import write_folder

SMALL = [
    "data.kind=folder", "data.crop=[]", "data.batch_size=2", "data.workers=0", "model.image_size=[64,96]",
    "model.backbone=test_efficientnet", "model.pretrained=false", "model.options={}",
    "schedule.steps=2", "schedule.warmup_steps=1",
]  # fmt: skip


def test_heads_are_trained_timed_and_drawn_and_a_run_is_not_made_again(tmp_path, capfd):
    data, out = write_folder(tmp_path / "rooms", 2), tmp_path / "out"
    write_folder(data, 2, "val")
    arguments = ["--data", str(data), "--out", str(out), "--only", "linear", "--rounds", "1", "--seeds", "4"]
    assert heads.main([*arguments, "--", *SMALL]) == 0
    run = out / "camvid_linear_lite0/seed4"
    trained = (run / "last.ckpt").stat().st_mtime_ns
    miou = json.loads((run / "figures.json").read_text())["miou"]
    assert f"linear, seed 4: mIoU {miou:.4f} on val" in capfd.readouterr().out
    drawn = ElementTree.parse(out / "val.svg").getroot()
    assert len(drawn.findall("{http://www.w3.org/2000/svg}circle")) == 1
    assert heads.main([*arguments, "--split", "train", "--", *SMALL]) == 0  # scored on another split, not trained again
    assert (run / "last.ckpt").stat().st_mtime_ns == trained
    assert json.loads((run / "train.json").read_text())["miou"] is not None
    assert (out / "train.md").read_text().count("\n| linear |") == 1


def test_a_head_without_a_run_is_said_to_have_none_and_not_drawn():
    times = {"linear": [10.0, 11.0], "other": [5.0, 5.5]}
    mious = {"linear": [0.3, 0.32]}
    lines = heads.table(mious, times).splitlines()
    assert lines[2].startswith("| other | not run | 5.2 (5.0-5.5) | 0.50 (0.50-0.50) | 0 |")
    assert "| linear | 31.0 (30.0-32.0) |" in lines[3]
    assert "other" not in heads.plot(mious, times)
    assert heads.plot({}, times) == ""


def test_the_recipes_differ_in_the_head_alone():
    recipes = [read_recipe(heads.RECIPES / f"{name}.yaml") for name in heads.HEADS.values()]
    for recipe in recipes[1:]:
        assert (recipe.data, recipe.optimizer, recipe.trainer) == (
            recipes[0].data,
            recipes[0].optimizer,
            recipes[0].trainer,
        )
        assert recipe.schedule.steps == recipes[0].schedule.steps
        assert (recipe.model.backbone, recipe.model.image_size) == (
            recipes[0].model.backbone,
            recipes[0].model.image_size,
        )


def test_unknown_heads_and_missing_data_are_refused(tmp_path: Path, capsys):
    with pytest.raises(SystemExit):
        heads.main(["--only", "lraspp"])
    assert "choose from" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        heads.main(["--data", str(tmp_path / "nothing")])
    assert str(tmp_path / "nothing") in capsys.readouterr().err
