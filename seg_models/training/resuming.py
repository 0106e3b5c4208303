"""Going on with a run: its checkpoint is read and checked here, and handed to Lightning, which opens no file itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from seg_models.atomic_file import whole_file
from seg_models.checkpoints.fitting import check_fit, not_finite
from seg_models.checkpoints.reading import CheckpointError
from seg_models.checkpoints.trained import WEIGHTS_PREFIX, read_trained
from seg_models.messages import shown
from seg_models.training.finite import TrainingError
from seg_models.training.task import SegmentationTask

MOST_COUNTED = 10**12  # steps, batches, epochs

PROGRESS = ("ready", "started", "processed", "completed")

# Where in a checkpoint's "loops" Lightning keeps the count that it calls global_step.
STEPS_MADE = (
    *("fit_loop", "epoch_loop.automatic_optimization.optim_progress"),
    *("optimizer", "step", "total", "completed"),
)


class RunCheckpoints(TorchCheckpointIO):
    """Lightning's way to the files of a run: it is given what was checked, and writes no weights that are not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.checked: dict[str, Any] | None = None

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """What was left in `checked`, once; the file is not opened.

        Raises:
            CheckpointError: nothing was.
        """
        checked, self.checked = self.checked, None
        if checked is None:
            raise CheckpointError(f"{path} was not checked, so it is not loaded")
        return checked

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a file, whole or not at all, also if the process is killed or the power goes on the way.

        Raises:
            TrainingError: weights are NaN or infinite.
        """
        broken = not_finite(checkpoint["state_dict"])
        if broken:
            raise TrainingError(
                f"{len(broken)} tensors of the model, the first is {broken[0]}, are NaN or infinite at step "
                f"{checkpoint['global_step']}"
            )
        with whole_file(Path(path)) as file:
            torch.save(checkpoint, file)


def read_resumable(path: Path, task: SegmentationTask) -> dict[str, Any]:
    """The content of a run's checkpoint, if all of it fits the task that is to go on with it.

    Raises:
        CheckpointError: it does not; names the file.
    """
    checkpoint = read_trained(path)
    content, where = checkpoint.content, str(path)
    if checkpoint.table.names != task.table.names:
        raise CheckpointError(
            f"{where} is of the classes {shown(checkpoint.table.names)}; the data has {shown(task.table.names)}"
        )
    own, name = task.model.state_dict(), f"the {task.recipe.model.name} of the recipe"
    check_fit(checkpoint.weights, own, name, where)
    if "current_model_state" in content:  # beside an average of them
        current = content["current_model_state"]
        if not isinstance(current, dict) or not all(isinstance(value, Tensor) for value in current.values()):
            raise CheckpointError(
                f"{where} has {type(current).__name__} for its current weights; expected tensors by name"
            )
        check_fit({str(key).removeprefix(WEIGHTS_PREFIX): value for key, value in current.items()}, own, name, where)
    for key in ("epoch", "global_step"):
        _check_counts(content.get(key), f"{where}: {key}")
    if not isinstance(content.get("pytorch-lightning_version"), str):
        raise CheckpointError(
            f"{where} does not say which Lightning wrote it; expected a checkpoint of seg_models.train"
        )
    _check_counts(content.get("loops"), f"{where}: loops")
    value: Any = content["loops"]
    for key in STEPS_MADE:
        value = value.get(key) if isinstance(value, dict) else None
    if value != content["global_step"]:  # Lightning would begin anew, without a word
        raise CheckpointError(
            f"{where} was made at step {content['global_step']}, its loops at {shown(value)}; expected the same"
        )
    _check_optimization(content, task, where)
    _check_paths(content.get("callbacks"), where)
    return content


def _check_counts(value: Any, where: str) -> None:
    """All numbers in nested dictionaries and lists are counts or flags."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in PROGRESS and not isinstance(inner, int):
                raise CheckpointError(f"{where}.{key} is {shown(inner)}; expected a count")
            _check_counts(inner, f"{where}.{shown(key)}")
    elif isinstance(value, list):
        for inner in value:
            _check_counts(inner, where)
    elif not isinstance(value, int) or not 0 <= value <= MOST_COUNTED:
        raise CheckpointError(f"{where} is {shown(value)}; expected a count")


def _check_optimization(content: dict[str, Any], task: SegmentationTask, where: str) -> None:
    """States of optimiser and schedule are as a new one's, and their tensors of the parameters' shapes and finite."""
    made = task.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    expected = {"optimizer_states": [{"param_groups": optimizer.state_dict()["param_groups"]}]}
    expected["lr_schedulers"] = [scheduler.state_dict()]
    _check_like({key: content.get(key) for key in expected}, expected, where)
    shapes = [parameter.shape for group in optimizer.param_groups for parameter in group["params"]]
    state = content["optimizer_states"][0].get("state")
    if not isinstance(state, dict):
        raise CheckpointError(f"{where}: the optimiser's state is {shown(state)}; expected a mapping")
    names = set().union(*(values for values in state.values() if isinstance(values, dict)))
    for index, values in state.items():
        if type(index) is not int or not 0 <= index < len(shapes) or not isinstance(values, dict):
            raise CheckpointError(
                f"{where}: the optimiser's state has {shown(index)}; expected {len(shapes)} parameters"
            )
        if values.keys() != names:
            lacking = shown(sorted(map(str, names - values.keys())))
            raise CheckpointError(f"{where}: the optimiser's parameter {index} lacks {lacking}")
        for name, value in values.items():
            fits = value is None or (isinstance(value, Tensor) and value.shape in (shapes[index], torch.Size()))
            if not fits or (value is not None and not_finite({"": value})):
                raise CheckpointError(
                    f"{where}: {shown(name)} of the optimiser's parameter {index} is damaged; "
                    f"expected finite numbers of shape {tuple(shapes[index])}"
                )


def _check_like(value: Any, reference: Any, where: str) -> None:
    """Numbers where the reference has numbers, as many in lists, under the same keys; what else there is stays open."""
    if isinstance(reference, dict):
        if not isinstance(value, dict):
            raise CheckpointError(f"{where} is {shown(value)}; expected a mapping")
        for key, inner in reference.items():
            # Keys without a number come and go with PyTorch's versions.
            if key in value or isinstance(inner, list | tuple | dict | float):
                _check_like(value.get(key), inner, f"{where}: {key}" if ":" not in where else f"{where}.{key}")
    elif isinstance(reference, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(reference):
            raise CheckpointError(f"{where} is {shown(value)}; expected {len(reference)} values")
        for inner, expected in zip(value, reference, strict=True):
            _check_like(inner, expected, where)
    elif isinstance(reference, int | float) and not (isinstance(value, int | float) and math.isfinite(value)):
        raise CheckpointError(f"{where} is {shown(value)}; expected a finite number")


def _check_paths(callbacks: Any, where: str) -> None:
    """Lightning deletes the older checkpoints that a file names: none may lie outside of the folder it was written to."""
    if not isinstance(callbacks, dict) or not all(isinstance(state, dict) for state in callbacks.values()):
        raise CheckpointError(f"{where} has {shown(callbacks)} for its callbacks; expected their states by name")
    for state in callbacks.values():
        kept = state.get("best_k_models", {})
        if not isinstance(kept, dict):
            raise CheckpointError(f"{where} names {shown(kept)} as kept checkpoints; expected their paths")
        paths = [*kept, *(state.get(key, "") for key in ("kth_best_model_path", "best_model_path", "last_model_path"))]
        for path in paths:
            if path != "" and (not isinstance(path, str) or str(Path(path).parent) != str(state.get("dirpath"))):
                raise CheckpointError(f"{where} names {shown(path)}, outside of its folder, as a checkpoint to delete")
