"""A training recipe: model, data, optimiser and schedule in one plain YAML file.

Every field is a field of a dataclass below, with its default and its reason. Unknown or ill-typed keys are refused.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


class RecipeError(ValueError):
    """A recipe file or override that is missing, unknown or of the wrong type."""


@dataclass(frozen=True)
class ModelRecipe:
    """Arguments of `build_model`; `options` go to the architecture's constructor."""

    name: str = "superpixel_transformer"
    backbone: str = "resnet50"
    pretrained: bool = False
    image_size: list[int] = field(default_factory=lambda: [512, 512])
    drop_path_rate: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataRecipe:
    """Folders of images and masks (see `data/folder.py`) and the augmentation of their training split."""

    roots: list[str] = field(default_factory=lambda: ["data/rooms"])
    train_split: str = "train"
    val_split: str = "val"
    scale: list[float] = field(default_factory=lambda: [0.5, 2.0])  # random scale of all five papers
    batch_size: int = 8
    workers: int = 2
    description: str = ""  # written into the exported model as its training data


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW."""

    lr: float = 1e-3
    weight_decay: float = 0.05
    backbone_lr_scale: float = 0.1
    clip_grad_norm: float = 0.0  # 0: no clipping


@dataclass(frozen=True)
class ScheduleRecipe:
    """Polynomial decay to zero after a linear warm-up, both counted in optimiser steps."""

    steps: int = 60_000
    warmup_steps: int = 5_000
    power: float = 0.9


@dataclass(frozen=True)
class TrainerRecipe:
    """How Lightning runs it."""

    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    validate_every_steps: int = 1_000
    keep_checkpoints: int = 1  # newest ones beside last.ckpt; -1 keeps all
    threads: int = 0  # CPU threads; 0: PyTorch's choice


@dataclass(frozen=True)
class Recipe:
    """The whole file."""

    name: str = "model"
    seed: int = 0
    model: ModelRecipe = field(default_factory=ModelRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    trainer: TrainerRecipe = field(default_factory=TrainerRecipe)


def recipe_from_dict(content: dict[str, Any]) -> Recipe:
    """A checked Recipe from nested plain values.

    Raises:
        RecipeError: a key that is no field (near ones are listed), or a value of another type.
    """
    return _construct(Recipe, content, "recipe")


def read_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a YAML recipe and apply overrides such as `data.roots=[/data/rooms]` or `schedule.steps=100`.

    Raises:
        RecipeError: no such file, not a mapping, or anything that `recipe_from_dict` refuses.
    """
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"no recipe at {path}; the ones that come with the repository are in config/recipes/")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise RecipeError(
            f"{path} holds {type(content).__name__}; expected a mapping with model, data, optimizer, schedule"
        )
    for override in overrides or []:
        key, separator, value = override.partition("=")
        if not separator:
            raise RecipeError(f"override {override!r} has no '='; expected something like schedule.steps=100")
        *parents, leaf = key.split(".")
        node = content
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = yaml.safe_load(value)
    return recipe_from_dict(content)


def _construct(kind: type, content: Any, where: str) -> Any:
    if not isinstance(content, dict):
        raise RecipeError(f"{where} is {content!r}; expected a mapping")
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in content.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=2) or sorted(hints)
            raise RecipeError(f"{where} has no field {key!r}; did you mean: {', '.join(near)}?")
        values[key] = _convert(hints[key], value, f"{where}.{key}")
    return kind(**values)


def _convert(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _construct(kind, value, where)  # type: ignore[arg-type]
    origin = typing.get_origin(kind)
    if origin is list and isinstance(value, list):
        (item,) = typing.get_args(kind)
        return [_convert(item, v, f"{where}[{i}]") for i, v in enumerate(value)]
    if kind is float and isinstance(value, str | int) and not isinstance(value, bool):
        # YAML reads 1e-3 as a string; the recipe means the number.
        try:
            return float(value)
        except ValueError:
            pass
    plain = origin or kind
    wrong_bool = isinstance(value, bool) and plain is not bool
    if (
        isinstance(plain, type)
        and not isinstance(plain, types.UnionType)
        and isinstance(value, plain)
        and not wrong_bool
    ):
        return value
    raise RecipeError(f"{where} is {value!r}; expected {getattr(kind, '__name__', kind)}")
