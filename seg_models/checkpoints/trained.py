"""Checkpoints of `seg_models.train`: the recipe, the label table and the weights of a model, and the state of its training.

`read_trained` is their one way in: nothing of a file is used before all of it that the package asks for was checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from seg_models.build import model_from_recipe, outline_from_recipe
from seg_models.checkpoints.fitting import check_fit
from seg_models.checkpoints.reading import CheckpointError, read_content
from seg_models.data.labels import LabelTable, LabelTableError, label_table
from seg_models.messages import shown
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.recipe import Recipe, RecipeError, recipe_from_dict

WEIGHTS_PREFIX = "model."  # of the model in Lightning's module


@dataclass(frozen=True)
class TrainedCheckpoint:
    """A file that was read and checked.

    Attributes:
        path: of the file.
        recipe: as it was run.
        table: names and colours of the model's classes.
        weights: all tensors of the recipe's model, by its own names; finite.
        content: everything in the file, among it the state of the training; tensors and plain values.
    """

    path: Path
    recipe: Recipe
    table: LabelTable
    weights: dict[str, Tensor]
    content: dict[str, Any]


@dataclass(frozen=True)
class TrainedTask:
    """A model ready for use.

    Attributes:
        recipe: as it was run.
        table: names and colours of the model's classes.
        model: in eval mode, weights loaded.
    """

    recipe: Recipe
    table: LabelTable
    model: SegmentationModel


def read_trained(path: Path) -> TrainedCheckpoint:
    """Read a checkpoint and see that it is whole: hyper-parameters, recipe, label table, and each weight of the model.

    Raises:
        CheckpointError: it is not; one line that names the file and what in it was expected.
    """
    content = read_content(path)
    if not isinstance(content, dict) or not {"state_dict", "hyper_parameters"} <= content.keys():
        raise CheckpointError(
            f"{path} holds no state_dict and hyper_parameters; expected a checkpoint of seg_models.train"
        )
    parameters, state = content["hyper_parameters"], content["state_dict"]
    if not isinstance(parameters, Mapping) or not {"recipe", "table"} <= parameters.keys():
        raise CheckpointError(f"{path} names no recipe and label table; expected a checkpoint of seg_models.train")
    table = parameters["table"]
    if not isinstance(table, Mapping) or not {"names", "palette"} <= table.keys():
        raise CheckpointError(f"{path} has the label table {shown(table)}; expected names and palette")
    try:
        recipe = recipe_from_dict(parameters["recipe"])
        labels = label_table(table["names"], table["palette"])
        outline = outline_from_recipe(recipe, len(labels.names))
    except (RecipeError, LabelTableError) as error:
        raise CheckpointError(f"{path}, the recipe and label table in it: {error}") from error
    weights = _weights(path, state)
    check_fit(weights, outline.state_dict(), f"the {recipe.model.name} of its recipe", str(path))
    return TrainedCheckpoint(path, recipe, labels, weights, content)


def load_task(path: Path) -> TrainedTask:
    """The model of a checkpoint with its recipe and label table.

    Raises:
        CheckpointError: what `read_trained` refuses.
    """
    checkpoint = read_trained(path)
    model = model_from_recipe(checkpoint.recipe, len(checkpoint.table.names), pretrained=False)
    model.load_state_dict(checkpoint.weights)
    return TrainedTask(checkpoint.recipe, checkpoint.table, model.eval())


def _weights(path: Path, state: Any) -> dict[str, Tensor]:
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path} has {type(state).__name__} for its state_dict; expected tensors by name")
    for key, value in state.items():
        if not isinstance(key, str) or not key.startswith(WEIGHTS_PREFIX) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path} holds {shown(key)}, {type(value).__name__}, among its weights; "
                f"expected tensors whose names start with {WEIGHTS_PREFIX!r}"
            )
    return {key.removeprefix(WEIGHTS_PREFIX): value for key, value in state.items()}
