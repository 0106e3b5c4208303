"""Checkpoints of this package: whole ones load, and all others are refused in one line that names the file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from seg_models.build import model_from_recipe
from seg_models.checkpoints.reading import CheckpointError
from seg_models.checkpoints.trained import load_task, read_trained
from seg_models.training.recipe import recipe_from_dict
from test import broken_files

MODEL = {
    "name": "segmenter",
    "backbone": "vit_tiny_patch16_224",
    "image_size": [32, 48],
    "options": {"patch_size": 16, "timm_options": {"embed_dim": 32, "depth": 2, "num_heads": 2}},
}
TABLE = {"names": ["floor", "wall", "door"], "palette": [[0, 0, 0], [1, 2, 3], [255, 255, 255]]}


@pytest.fixture(scope="module")
def content() -> dict:
    """What a checkpoint holds that an evaluation reads."""
    recipe = recipe_from_dict({"name": "tiny", "model": MODEL})
    torch.manual_seed(0)
    state = {f"model.{key}": value for key, value in model_from_recipe(recipe, 3).state_dict().items()}
    parameters = {"recipe": dataclasses.asdict(recipe), "table": TABLE}
    return {"state_dict": state, "hyper_parameters": parameters, "epoch": 1, "global_step": 2}


def refusal(path: Path) -> str | None:
    """The line that a file is refused with; None if it is taken."""
    try:
        read_trained(path)
    except CheckpointError as error:
        line = str(error)
        assert line.isprintable(), line
        assert str(path) in line
        assert len(line) < 1500
        return line
    return None


def test_a_whole_checkpoint_gives_its_model_recipe_and_table(content, tmp_path):
    torch.save(content, tmp_path / "good.ckpt")
    task = load_task(tmp_path / "good.ckpt")
    assert not task.model.training
    assert task.recipe.name == "tiny"
    assert task.table.names == ("floor", "wall", "door")
    assert task.table.palette[2] == (255, 255, 255)
    for key, value in task.model.state_dict().items():
        assert torch.equal(value, content["state_dict"][f"model.{key}"])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "model.decoder.mask_norm.bias",
            torch.full((3,), float("nan")),
            "NaN or infinite values in decoder.mask_norm.bias",
        ),
        (
            "model.decoder.mask_norm.bias",
            torch.tensor([0, 0, float("inf")]),
            "NaN or infinite values in decoder.mask_norm.b",
        ),
        (
            "model.decoder.mask_norm.bias",
            torch.zeros(4),
            r"does not fit the segmenter .*mask_norm.bias is \(4,\), expected \(3,\)",
        ),
        ("model.decoder.mask_norm.bias", torch.zeros(3, dtype=torch.int64), "is torch.int64, expected torch.float32"),
        ("model.surplus", torch.zeros(3), "missing none; unexpected surplus"),
        ("averages.x", torch.zeros(3), "names start with 'model.'"),
    ],
)
def test_weights_that_are_not_the_models_are_named(content, tmp_path, key, value, message):
    state = content["state_dict"] | {key: value}
    torch.save(content | {"state_dict": state}, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match=message):
        load_task(tmp_path / "bad.ckpt")
    assert refusal(tmp_path / "bad.ckpt")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"recipe": {"model": MODEL | {"image_size": [32, -48]}}}, "image_size"),
        ({"recipe": {"model": MODEL | {"options": {"no_such": 1}}}}, "no option 'no_such'"),
        ({"recipe": {"model": MODEL | {"backbone": ["x"]}}}, "backbone is"),
        ({"recipe": {"model": MODEL | {"options": {"timm_options": {"depth": 10**5}}}}}, "depth"),
        ({"recipe": 3}, "is 3; expected a mapping"),
        ({"table": {"names": ["a", "b"], "palette": [[0, 0, 0]]}}, "expected 2 colours"),
        ({"table": {"names": ["a\n", "b"], "palette": [[0, 0, 0]] * 2}}, "expected printable text"),
        ({"table": {"names": ["a", "b"], "palette": [[0, 0, 0], [0, 0, 256]]}}, "three values of 0..255"),
        ({"table": {"names": ["a"], "palette": [[0, 0, 0]]}}, "does not fit the segmenter of its recipe"),
        ({"table": []}, "expected names and palette"),
    ],
)
def test_hyper_parameters_that_make_no_model_are_named(content, tmp_path, parameters, message):
    torch.save(content | {"hyper_parameters": content["hyper_parameters"] | parameters}, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match=message):
        load_task(tmp_path / "bad.ckpt")
    assert refusal(tmp_path / "bad.ckpt")


@pytest.mark.parametrize("seed", broken_files.rounds(20))
def test_broken_bytes_are_refused_or_change_nothing(content, tmp_path, seed):
    path = tmp_path / "broken.ckpt"
    how, broken = broken_files.damaged_bytes(broken_files.saved(content), seed)
    path.write_bytes(broken)
    if refusal(path) is None:  # between two records, or in a record's padding
        for key, value in read_trained(path).weights.items():
            assert torch.equal(value, content["state_dict"][f"model.{key}"]), how


@pytest.mark.parametrize("seed", broken_files.rounds(20))
def test_broken_weights_are_refused(content, tmp_path, seed):
    path = tmp_path / "broken.ckpt"
    how, state = broken_files.damaged_state(content["state_dict"], seed)
    try:
        torch.save(content | {"state_dict": state}, path)
    except (RuntimeError, NotImplementedError):
        pytest.skip(f"PyTorch writes no file in which {how}")
    unchanged = state.keys() == content["state_dict"].keys() and all(
        isinstance(value, torch.Tensor)
        and value.shape == content["state_dict"][key].shape
        and value.is_floating_point()
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and torch.isfinite(value).all()
        for key, value in state.items()
    )
    assert unchanged == (refusal(path) is None), how


@pytest.mark.parametrize("seed", broken_files.rounds(40))
def test_broken_hyper_parameters_are_refused_or_make_a_model(content, tmp_path, seed):
    path = tmp_path / "broken.ckpt"
    _, parameters = broken_files.damaged_values(content["hyper_parameters"], seed)
    torch.save(content | {"hyper_parameters": parameters}, path)
    if refusal(path) is None:
        assert load_task(path).model.num_classes == 3


def test_hostile_files_are_refused_and_run_nothing_whatever_the_environment_says(content, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = tmp_path / "ran"
    for name, hostile in broken_files.hostile_checkpoints(broken_files.saved(content), marker).items():
        path = tmp_path / "hostile.ckpt"
        path.write_bytes(hostile)
        assert refusal(path), name
        assert not marker.exists(), name
