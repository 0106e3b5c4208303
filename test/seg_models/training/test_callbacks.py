"""What changes over a run, through the command line on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from seg_models import train
from seg_models.checkpoints.trained import load_task, read_trained
from seg_models.training.callbacks import hard_pixel_share, schedule_callbacks
from seg_models.training.recipe import Recipe, RecipeError, recipe_from_dict
from test.seg_models.data.test_folder import write_folder


def write_recipe(folder: Path, **optimizer: float | bool) -> Path:
    """Four steps on six random images."""
    data = write_folder(folder / "data", 6)
    write_folder(data, 2, "val")
    options = {"width": 32, "cross_attention_layers": 1, "self_attention_layers": 1}
    model = {
        "name": "superpixel_transformer",
        "backbone": "test_efficientnet",
        "image_size": [64, 96],
        "options": options,
    }
    content = {
        "name": "tiny",
        "model": model,
        "data": {"roots": [str(data)], "batch_size": 2, "workers": 0, "crop": [32, 64]},
        "optimizer": optimizer,
        "schedule": {"steps": 4, "warmup_steps": 0, "hard_pixels_from": 1.0},
        "trainer": {"validate_every_steps": 2, "accelerator": "cpu", "keep_checkpoints": -1},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    return folder / "recipe.yaml"


def test_averaged_weights_are_saved_and_a_resumed_run_equals_an_unbroken_one(tmp_path):
    recipe = write_recipe(tmp_path, average_decay=0.5, frozen_parts=1, frozen_batch_norm=True)
    assert train.main(["--config", str(recipe), "--out", str(tmp_path / "whole")]) == 0
    halfway = read_trained(tmp_path / "whole/step2.ckpt").content
    name = "model.classifier.weight"
    assert not torch.equal(halfway["state_dict"][name], halfway["current_model_state"][name])
    (tmp_path / "half").mkdir()
    (tmp_path / "half/last.ckpt").write_bytes((tmp_path / "whole/step2.ckpt").read_bytes())
    assert train.main(["--config", str(recipe), "--out", str(tmp_path / "half"), "--resume"]) == 0
    resumed = read_trained(tmp_path / "half/last.ckpt").weights
    for key, value in read_trained(tmp_path / "whole/last.ckpt").weights.items():
        torch.testing.assert_close(resumed[key], value, msg=key)
    state = read_trained(tmp_path / "whole/last.ckpt").weights
    means = [value for key, value in state.items() if key.startswith("backbone.") and key.endswith("running_mean")]
    assert means
    assert all((mean == 0).all() for mean in means)  # as a new batch norm has it: frozen over steps and validations
    load_task(tmp_path / "whole/last.ckpt")  # the average alone is a whole model


def test_the_share_of_hard_pixels_falls_in_a_line_and_then_stays():
    assert hard_pixel_share(0, 1000, 1.0, 0.2) == 1.0
    assert hard_pixel_share(375, 1000, 1.0, 0.2) == pytest.approx(0.6)
    assert hard_pixel_share(750, 1000, 1.0, 0.2) == hard_pixel_share(999, 1000, 1.0, 0.2) == pytest.approx(0.2)


def test_nothing_is_added_unasked():
    assert schedule_callbacks(Recipe()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"schedule": {"hard_pixels_from": 1.5}}, "hard_pixels_from is 1.5; expected a number in 0..1"),
        ({"optimizer": {"average_decay": 1.0}}, "average_decay is 1; expected a number at least 0 and below 1"),
    ],
)
def test_numbers_outside_their_range_are_refused(content, message):
    with pytest.raises(RecipeError, match=message):
        schedule_callbacks(recipe_from_dict(content))
