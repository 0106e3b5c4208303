"""Checkpoints of `seg_models.train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seg_models.build import model_from_recipe
from seg_models.data.labels import LabelTable
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.recipe import Recipe, RecipeError, recipe_from_dict


@dataclass(frozen=True)
class TrainedTask:
    """What a checkpoint holds beside the state of the training.

    Attributes:
        recipe: as it was run.
        table: names and colours of the model's classes.
        model: in eval mode, weights loaded.
    """

    recipe: Recipe
    table: LabelTable
    model: SegmentationModel


def read_trained(path: Path) -> dict[str, Any]:
    """A checkpoint's content, loaded without executing pickled code.

    Raises:
        RecipeError: no such file, or not a checkpoint of `seg_models.train`.
    """
    if not path.is_file():
        raise RecipeError(f"no checkpoint at {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RecipeError(
            f"{path} is no readable checkpoint ({type(error).__name__}); expected one of seg_models.train"
        ) from error
    if not isinstance(content, dict) or not {"state_dict", "hyper_parameters"} <= content.keys():
        raise RecipeError(f"{path} holds no state_dict and hyper_parameters; expected a checkpoint of seg_models.train")
    return content


def load_task(path: Path) -> TrainedTask:
    """The model of a checkpoint with its recipe and label table.

    Raises:
        RecipeError: what `read_trained` refuses.
    """
    content = read_trained(path)
    parameters = content["hyper_parameters"]
    recipe = recipe_from_dict(parameters["recipe"])
    table = LabelTable(
        tuple(parameters["table"]["names"]),
        tuple(tuple(colour) for colour in parameters["table"]["palette"]),  # type: ignore[misc]
    )
    model = model_from_recipe(recipe, len(table.names), pretrained=False)
    model.load_state_dict(
        {key.removeprefix("model."): value for key, value in content["state_dict"].items()}, strict=True
    )
    return TrainedTask(recipe, table, model.eval())
