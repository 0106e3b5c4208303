"""Runs: what is refused leaves nothing behind, a resumed file is checked before anything is touched, NaN stops."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
import yaml

from seg_models import train
from seg_models.checkpoints.reading import CheckpointError
from seg_models.data.labels import read_label_table
from seg_models.training.finite import TrainingError
from seg_models.training.recipe import read_recipe
from seg_models.training.resuming import RunCheckpoints, read_resumable
from seg_models.training.task import SegmentationTask
from test import broken_files
from test.seg_models.data.test_folder import write_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> dict[str, Path]:
    """A finished run of two steps: its recipe, data and folder."""
    root = tmp_path_factory.mktemp("run")
    data = write_folder(root / "data", 4)
    write_folder(data, 2, "val")
    recipe = root / "recipe.yaml"
    content = {
        "name": "tiny",
        "model": {
            "name": "linear",
            "backbone": "vit_tiny_patch16_224",
            "image_size": [32, 32],
            "options": {"timm_options": {"embed_dim": 16, "depth": 1, "num_heads": 2}},
        },
        "data": {"roots": [str(data)], "batch_size": 2, "workers": 0},
        "optimizer": {"clip_grad_norm": 1.0},
        "schedule": {"steps": 2, "warmup_steps": 0},
        "trainer": {"validate_every_steps": 1, "accelerator": "cpu"},
    }
    recipe.write_text(yaml.safe_dump(content))
    assert train.main(["--config", str(recipe), "--out", str(root / "out")]) == 0
    return {"recipe": recipe, "data": data, "out": root / "out"}


@pytest.fixture(scope="module")
def content(run) -> dict:
    """What the run's checkpoint holds."""
    return torch.load(run["out"] / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def task(run) -> SegmentationTask:
    """What goes on with the run."""
    recipe, table = read_recipe(run["recipe"]), read_label_table(run["data"] / "classes.yaml")
    names, palette = list(table.names), [list(colour) for colour in table.palette]
    return SegmentationTask(dataclasses.asdict(recipe), {"names": names, "palette": palette})


def refusal(path: Path, task: SegmentationTask) -> str | None:
    """The line that a resumed file is refused with; None if it is taken."""
    try:
        read_resumable(path, task)
    except CheckpointError as error:
        line = str(error)
        assert str(path) in line
        assert line.isprintable()
        return line
    return None


def with_value(content: dict, path: tuple, value: object) -> dict:
    """The content with one value exchanged; `path` leads to it."""
    changed = copy.deepcopy(content)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return changed


FIRST_PARAMETER = ("optimizer_states", 0, "state", 0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("global_step",), -1, "global_step is -1; expected a count"),
        (("loops",), {}, "was made at step 2, its loops at None; expected the same"),
        (("loops", "fit_loop", "state_dict", "combined_loader"), [{"served": -5}], "served' is -5; expected a count"),
        (("optimizer_states",), [], "optimizer_states is .*; expected 1 values"),
        (("optimizer_states", 0, "param_groups", 0, "lr"), float("nan"), "lr is nan; expected a finite number"),
        ((*FIRST_PARAMETER, "exp_avg"), torch.zeros(3), "'exp_avg' of the optimiser's parameter 0 is damaged"),
        ((*FIRST_PARAMETER, "step"), torch.tensor(float("inf")), "'step' of the optimiser's parameter 0 is damaged"),
        (FIRST_PARAMETER, {"step": torch.tensor(2.0)}, r"parameter 0 lacks \['exp_avg', 'exp_avg_sq'\]"),
        (("loops", "fit_loop", "epoch_loop.batch_progress", "total", "ready"), {}, "ready is {}; expected a count"),
        (("lr_schedulers", 0, "base_lrs"), "x", "base_lrs is 'x'; expected"),
        (("callbacks", "x"), {"dirpath": "/a", "best_k_models": {"/b/c.ckpt": 1}}, "outside of its folder"),
        (("pytorch-lightning_version",), None, "does not say which Lightning wrote it"),
        (("state_dict", "model.decoder.bias"), torch.full((2,), float("nan")), "unexpected|NaN or infinite"),
        (("hyper_parameters", "table", "names"), ["sky", "sea"], r"is of the classes \('sky', 'sea'\); the data has"),
    ],
)
def test_a_damaged_state_of_the_training_is_named(content, task, tmp_path, path, value, message):
    torch.save(with_value(content, path, value), tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=message):
        read_resumable(tmp_path / "last.ckpt", task)
    assert refusal(tmp_path / "last.ckpt", task)


def test_the_runs_own_checkpoint_is_taken(run, task):
    assert read_resumable(run["out"] / "last.ckpt", task)["global_step"] == 2


@pytest.mark.parametrize("seed", broken_files.rounds(30))
def test_a_broken_state_of_the_training_is_refused_in_one_line_or_taken(content, task, tmp_path, seed):
    state = {
        key: content[key] for key in ("loops", "callbacks", "optimizer_states", "lr_schedulers", "epoch", "global_step")
    }
    torch.save(content | broken_files.damaged_values(state, seed)[1], tmp_path / "last.ckpt")
    refusal(tmp_path / "last.ckpt", task)


def test_a_hostile_file_is_not_resumed_and_the_finished_runs_recipe_stays(run, content, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    out, marker = tmp_path / "out", tmp_path / "ran"
    out.mkdir()
    (out / "recipe.yaml").write_text("as it was run")
    hostile = broken_files.hostile_checkpoints(broken_files.saved(content), marker)
    cut = broken_files.saved(content)[:-1000]
    untimely = broken_files.saved(
        content | {"callbacks": {name: {"x": 1} for name in content["callbacks"]}}
    )  # what Lightning alone finds
    for broken in (hostile["code"], hostile["bomb"], cut, b"", untimely):
        (out / "last.ckpt").write_bytes(broken)
        assert train.main(["--config", str(run["recipe"]), "--out", str(out), "--resume", "schedule.steps=4"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"error: {out / 'last.ckpt'}")
        assert not marker.exists()
        assert sorted(path.name for path in out.iterdir() if path.is_file()) == ["last.ckpt", "recipe.yaml"]
        assert (out / "recipe.yaml").read_text() == "as it was run"


def test_a_resumed_run_never_lets_lightning_open_a_file(run, tmp_path, monkeypatch):
    (tmp_path / "last.ckpt").write_bytes((run["out"] / "last.ckpt").read_bytes())
    monkeypatch.setattr("lightning.fabric.plugins.io.torch_io.pl_load", None)
    arguments = ["--config", str(run["recipe"]), "--out", str(tmp_path), "--resume", "schedule.steps=4"]
    assert train.main(arguments) == 0
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--init-from", "{broken}"], "is no readable checkpoint"),
        (["--init-backbone", "{broken}"], "is no readable checkpoint"),
        (["schedule.hard_pixels_from=0.5"], "hard_pixels_from is of superpixel_transformer"),
        (["model.options.timm_options.depth=-1"], "model: cannot be built of these values"),
        (["model.options.patch_size=7000"], "expected at most 2,000,000,000"),
        (["trainer.devices=100"], "trainer.devices is 100; this machine has"),
        (["data.scale=[1]"], "data: scale is"),
        (["data.roots=[/nowhere]"], "no label table at /nowhere"),
    ],
)
def test_a_refused_training_leaves_no_folder(run, tmp_path, capsys, arguments, message):
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04")
    arguments = [argument.format(broken=tmp_path / "broken.pth") for argument in arguments]
    assert train.main(["--config", str(run["recipe"]), "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_loss_that_becomes_nan_stops_the_training_with_its_step_and_what_to_do(run, tmp_path, capsys):
    overrides = ["optimizer.lr=1e9", "optimizer.name=sgd", "optimizer.clip_grad_norm=0", "schedule.steps=50"]
    out = tmp_path / "out"
    assert train.main(["--config", str(run["recipe"]), "--out", str(out), *overrides]) == 1
    captured = capsys.readouterr()
    assert "done" not in captured.out
    error = captured.err.splitlines()[-1]
    assert "NaN or infinite at step" in error
    assert "lower optimizer.lr (1e+09), set optimizer.clip_grad_norm (1.0)" in error
    for checkpoint in out.glob("*.ckpt"):  # whatever was saved before is whole
        assert all(
            torch.isfinite(value).all() for value in torch.load(checkpoint, weights_only=True)["state_dict"].values()
        )


def test_weights_that_are_not_finite_are_never_written(tmp_path):
    state = {"model.a": torch.zeros(2), "model.b": torch.tensor([1.0, float("nan")])}
    with pytest.raises(TrainingError, match=r"the first is model.b, are NaN or infinite at step 7"):
        RunCheckpoints().save_checkpoint({"state_dict": state, "global_step": 7}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []
