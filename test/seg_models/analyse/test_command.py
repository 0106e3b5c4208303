"""`python -m seg_models.analyse`: what it refuses; that every figure is drawn is tested by the page of the papers."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_models.analyse.command import main
from seg_models.analyse.drawing import COLOURS
from seg_models.analyse.pictures import BAR
from seg_models.evaluation.panels import OUTLINE, UNLABELLED_COLOUR, WRONG, outlined
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


def test_pictures_stand_side_by_side_and_say_how_much_is_wrong(run, tmp_path):
    out = tmp_path / "out"
    words = ["pictures", "--checkpoint", str(run["checkpoint"]), "--beside", str(run["checkpoint"])]
    assert main([*words, "--data", str(run["data"]), "--out", str(out)]) == 0
    figures = json.loads((out / "figures.json").read_text())
    (name,) = figures["pictures"]
    picture = cv2.imread(str(out / f"{name}.png"))
    assert picture.shape == (32, 6 * 32 + 5 * BAR, 3)  # image, truth, and two of each model
    red = (picture[:, 3 * (32 + BAR) : 4 * 32 + 3 * BAR] == WRONG).all(-1)
    black = (picture[:, 3 * (32 + BAR) : 4 * 32 + 3 * BAR] == UNLABELLED_COLOUR).all(-1)
    assert red.sum() / (~black).sum() == pytest.approx(figures["share_of_wrong_pixels"][name])


def test_outlines_lie_where_superpixels_meet():
    owner = np.zeros((6, 8), np.int64)
    owner[:, 4:] = 1
    drawn = (outlined(np.zeros((6, 8, 3), np.uint8), owner) == OUTLINE).all(-1)
    assert drawn[:, 3].all()
    assert drawn.sum() == 6


def test_classes_are_compared_in_points(tmp_path, capsys):
    for name, iou in (("a", {"road": 0.5, "sky": None}), ("b", {"road": 0.75, "sky": 0.1}), ("c", {"sea": 1.0})):
        (tmp_path / f"{name}.json").write_text(json.dumps({"iou": iou}))
    (tmp_path / "d.json").write_text("[]")
    words = ["compare", "--out", str(tmp_path / "out"), "--figures", str(tmp_path / "a.json")]
    assert main([*words, str(tmp_path / "b.json")]) == 0
    assert "road   50.0   +25.0" in capsys.readouterr().out
    figures = json.loads((tmp_path / "out/figures.json").read_text())
    assert figures["differences_in_points"] == {"road": [25.0], "sky": [None]}
    for other, message in (("c", "has other classes than"), ("d", "holds no IoU of classes")):
        assert main([*words, str(tmp_path / f"{other}.json")]) == 2
        assert message in capsys.readouterr().err


def test_models_are_drawn_over_their_cost_and_those_that_another_one_beats_are_named(tmp_path, capsys):
    made = {"slim": (0.40, 4e9), "wide": (0.50, 60e9), "waste": (0.39, 20e9)}
    for name, (miou, operations) in made.items():
        cost = {"multiply_accumulates": operations, "parameters": 5e6, "network_ms": {"median": 3.0}}
        scored = {"miou": miou, "cost": cost, "model": f"runs/{name}/last.ckpt", "data": "d/ade20k", "split": "val"}
        (tmp_path / f"{name}.json").write_text(json.dumps({**scored, "images": 2000}))
    words = ["trade-off", "--out", str(tmp_path / "out"), "--figures", *(str(tmp_path / f"{n}.json") for n in made)]
    assert main(words) == 0
    figures = json.loads((tmp_path / "out/figures.json").read_text())
    assert [(m["name"], m["multiply_accumulates"], m["beaten_by"]) for m in figures["models"]] == [
        ("slim", 4.0, []),
        ("waste", 20.0, ["slim"]),
        ("wide", 60.0, []),
    ]
    assert "4.00 1e9 multiply-accumulates  mIoU  40.0  slim" in capsys.readouterr().out
    picture = cv2.imread(str(tmp_path / "out/trade_off.png"))
    for colour in COLOURS[:3]:
        assert (picture == colour).all(-1).sum() > 50  # a dot and a name each
    assert main([*words, "--over", "network_ms"]) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost": None}, "holds no score with its cost"),
        ({"cost": {"multiply_accumulates": None}}, "give --over parameters or network_ms"),
        ({"split": "test"}, "only figures of the same images can be compared"),
    ],
)
def test_figures_that_cannot_be_drawn_over_cost_are_refused(tmp_path, capsys, changes, message):
    cost = {"multiply_accumulates": 1e9}
    whole = {"miou": 0.5, "cost": cost, "model": "m.ckpt", "data": "d", "split": "val", "images": 3}
    (tmp_path / "a.json").write_text(json.dumps(whole))
    (tmp_path / "b.json").write_text(json.dumps({**whole, **changes}))
    words = ["trade-off", "--out", str(tmp_path / "out"), "--figures", str(tmp_path / "a.json")]
    assert main([*words, str(tmp_path / "b.json")]) == 2
    assert message in capsys.readouterr().err
