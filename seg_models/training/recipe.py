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
class CameraRecipe:
    """Probabilities of a camera's effects on a training image (see `data/camera.py`); rendered images know none of them."""

    vignetting: float = 0.0
    white_balance: float = 0.0
    colour_cast: float = 0.0
    exposure: float = 0.0
    motion_blur: float = 0.0
    noise: float = 0.0
    gamma: float = 0.0
    grey: float = 0.0  # for monochrome cameras
    jpeg: float = 0.0


@dataclass(frozen=True)
class DataRecipe:
    """Folders of images and masks (see `data/folder.py`) and the augmentation of their training split."""

    roots: list[str] = field(default_factory=lambda: ["data/rooms"])
    # Folders that validation images are read from instead: to choose by images that are neither trained on nor reported.
    val_roots: list[str] = field(default_factory=list)
    exclude: str = ""  # text file, a line for each training image (its name without the ending) that is left out
    train_split: str = "train"
    val_split: str = "val"
    # (h, w) of a training crop; []: the model's image_size. Smaller crops make quicker steps, for the first part of a run.
    crop: list[int] = field(default_factory=list)
    scale: list[float] = field(default_factory=lambda: [0.5, 2.0])  # random scale of all five papers
    # What scale 1 is. []: the whole image fits the network's input. [long, short]: the image fits these sides, however they
    # lie, and a crop is taken (mmsegmentation's img_scale).
    resize: list[int] = field(default_factory=list)
    # A crop is drawn again while one class fills this share of it or more, at most 10 times; 1: never.
    max_class_share: float = 1.0
    photometric_distortion: bool = False  # mmsegmentation's change of colours instead of the project's milder one
    camera: CameraRecipe = field(default_factory=CameraRecipe)  # after the change of colours
    batch_size: int = 8  # of each process
    workers: int = 2
    description: str = ""  # written into the exported model as its training data


@dataclass(frozen=True)
class OptimizerRecipe:
    """The optimiser, and the groups of parameters with rates and weight decay of their own (see `optimization.py`)."""

    name: str = "adamw"  # or sgd
    lr: float = 1e-3
    weight_decay: float = 0.05
    backbone_lr_scale: float = 0.1
    head_lr_scale: float = 1.0  # of everything but the backbone
    # Scales by the start of a parameter's name, such as {decoder.: 1.0}; the longest one that fits replaces the two above.
    lr_scales: dict[str, float] = field(default_factory=dict)
    layer_lr_decay: float = 1.0  # of the rate from one transformer block to the one before it; 1: none
    # Parameters without weight decay, by the names of `optimization.NO_DECAY`.
    no_decay: list[str] = field(default_factory=lambda: ["vectors", "learned_grids"])
    momentum: float = 0.9  # of sgd
    nesterov: bool = True  # of sgd
    clip_grad_norm: float = 0.0  # 0: no clipping
    # First parts of a convolutional backbone (1: its stem) that stay as they start: edges and textures of real images.
    frozen_parts: int = 0
    # All its batch norms keep the statistics that they start with: a batch's own are noisy, and of rendered images.
    frozen_batch_norm: bool = False
    # Weights are averaged over the steps with this decay; the average is validated and saved. 0: the last weights are.
    average_decay: float = 0.0


@dataclass(frozen=True)
class ScheduleRecipe:
    """The learning rate over the run. All steps are the optimiser's."""

    name: str = "polynomial"  # or cosine_restarts
    steps: int = 60_000
    warmup_steps: int = 5_000
    # "before": the schedule starts behind the warm-up and has the remaining steps (Superpixel Transformer).
    # "over": it runs from the first step on, and the warm-up is multiplied onto it (mmsegmentation).
    warmup: str = "before"
    warmup_start_ratio: float = 1e-6  # of "over"; "before" starts at 1 / (warmup_steps + 1)
    power: float = 0.9  # of polynomial
    # Share of each image's pixels in the Superpixel Transformer's loss at the start, from where it falls to the model's
    # hard_pixel_fraction at 3/4 of the run. On a short run the hardest fifth alone learns slowly. 0: no schedule.
    hard_pixels_from: float = 0.0
    min_lr: float = 0.0  # of polynomial: where it ends, in every group
    periods: list[int] = field(default_factory=list)  # of cosine_restarts: steps of each
    weights: list[float] = field(default_factory=list)  # of cosine_restarts: share of the rate that each starts with


@dataclass(frozen=True)
class TrainerRecipe:
    """How Lightning runs it."""

    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    sync_batchnorm: bool = False  # one mean and variance over all GPUs
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
    if origin is dict and isinstance(value, dict):
        _, item = typing.get_args(kind)
        return {str(k): v if item is Any else _convert(item, v, f"{where}.{k}") for k, v in value.items()}
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
