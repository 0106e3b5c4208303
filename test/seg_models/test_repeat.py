"""Several seeds as one command."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from seg_models import evaluate, train
from seg_models.repeat import main
from seg_models.training.recipe import read_recipe
from test.seg_models.data.test_folder import write_folder
from test.seg_models.miniature import miniature

ROWS = Path(__file__).parents[2] / "config/recipes/rows/regproxy.yaml"
ROW = "T9 S/16, depth-wise"


@pytest.fixture
def folder(tmp_path) -> Path:
    write_folder(tmp_path / "data", 4)
    write_folder(tmp_path / "data", 2, "val")
    return tmp_path / "data"


def test_each_seed_is_trained_and_scored_once_and_the_median_is_reported(folder, tmp_path, capsys):
    small = miniature(read_recipe(ROWS, row=ROW), folder)
    command = ["--train", shlex.join(["--config", str(ROWS), "--row", ROW, *small]), "--evaluate", f"--data {folder}"]
    command += ["--out", str(tmp_path / "runs"), "--seeds", "3", "1", "2"]
    ran: list[str] = []

    def here(module: str, arguments) -> int:
        ran.append(f"{module} {' '.join(arguments)}")
        return {"seg_models.train": train.main, "seg_models.evaluate": evaluate.main}[module](list(arguments))

    assert main(command, here) == 0
    assert len(ran) == 6
    out = capsys.readouterr().out
    figures = json.loads((tmp_path / "runs/figures.json").read_text())
    assert list(figures["miou"]) == ["3", "1", "2"]
    assert sorted(figures["miou"].values())[1] == figures["median"]
    assert f"median of 3: mIoU {figures['median']:.4f}" in out
    for seed in (1, 2, 3):
        assert f"seed: {seed}\n" in (tmp_path / f"runs/seed{seed}/recipe.yaml").read_text()
    # The same command again has nothing left to do; without a seed's figures only that seed is scored.
    (tmp_path / "runs/seed1/figures.json").unlink()
    ran.clear()
    assert main(command, here) == 0
    assert [line.split()[0] for line in ran] == ["seg_models.evaluate"]
    assert json.loads((tmp_path / "runs/figures.json").read_text()) == figures


def test_a_run_that_was_stopped_is_resumed_and_a_failure_ends_it(tmp_path, capsys):
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0/last.ckpt").touch()
    asked = []

    def fails(module: str, arguments) -> int:
        asked.append([module, *arguments])
        return 2

    assert (
        main(["--train", "--config r.yaml", "--evaluate", "--data d", "--out", str(tmp_path), "--seeds", "0"], fails)
        == 1
    )
    assert asked == [["seg_models.train", "--config", "r.yaml", "seed=0", "--out", f"{tmp_path}/seed0", "--resume"]]
    assert "seg_models.train --config r.yaml seed=0" in capsys.readouterr().err
    assert not (tmp_path / "seed0/trained").exists()
