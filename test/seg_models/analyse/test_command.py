"""`python -m seg_models.analyse`: what it refuses; that every figure is drawn is tested by the page of the papers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seg_models.analyse.command import main
from seg_models.train import main as train
from seg_models.training.recipe import read_recipe
from test.seg_models.data.test_folder import write_folder
from test.seg_models.miniature import miniature

ROWS = Path(__file__).parents[3] / "config/recipes/rows/regproxy.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> dict[str, Path]:
    """A RegProxy of one step on images of 24 x 32 pixels, and one of the images."""
    made = tmp_path_factory.mktemp("run")
    write_folder(made / "data", 4)
    write_folder(made / "data", 1, "val")
    row = "T4 RegProxy-S/16"
    small = miniature(read_recipe(ROWS, row=row), made / "data")
    assert train(["--config", str(ROWS), "--row", row, "--out", str(made / "run"), *small]) == 0
    return {
        "checkpoint": made / "run/last.ckpt",
        "image": next((made / "data/images/val").iterdir()),
        "data": made / "data",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attention", "--image", "{image}"], "nothing to look at; give --patch"),
        (["attention", "--image", "{image}", "--classes", "unicorn"], "no class 'unicorn'; the model has"),
        (["attention", "--image", "{image}", "--patch", "0", "0", "--layers", "99"], "layer 99; expected 1 to 12"),
        (["attention", "--image", "absent.png", "--patch", "0", "0"], "absent.png"),
        (["features", "--image", "{image}"], "RegProxy here has no local separation blocks"),
        (["embeddings"], "learns no vector for each class"),
        (["regions"], "nothing to look at; give --data"),
        (["regions", "--image", "{image}", "--regions", "4"], "region 4; expected 0 to 3"),
        (["regions", "--data", "{data}", "--split", "night"], "night"),
        (["speed", "--device", "gpu9"], "--device gpu9"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(run, tmp_path, capsys, arguments, message):
    words = [word.format(**run) for word in arguments]
    assert main([*words, "--checkpoint", str(run["checkpoint"]), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_speed_asks_for_something_to_measure(tmp_path, capsys):
    assert main(["speed", "--out", str(tmp_path)]) == 2
    assert "nothing to measure; give --checkpoint, or --config" in capsys.readouterr().err


def test_entropies_are_drawn_and_counted(run, tmp_path):
    out = tmp_path / "out"
    words = ["regions", "--checkpoint", str(run["checkpoint"]), "--data", str(run["data"]), "--out", str(out)]
    assert main(words) == 0
    figures = json.loads((out / "figures.json").read_text())
    assert set(figures) == {"cells", "slic", "learned"}
    assert figures["cells"]["regions"] == 4
    assert 0 <= figures["cells"]["share_of_one_class"] <= 1
    mixed = figures["cells"]["regions"] * (1 - figures["cells"]["share_of_one_class"])
    assert sum(figures["cells"]["histogram"]) == round(mixed)
