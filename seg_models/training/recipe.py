"""A training recipe: model, data, optimiser and schedule in one plain YAML file.

Every field is a field of a dataclass below, with its default and its reason. Unknown keys are refused, and values
of another type or outside what `Annotated` says (see `fields.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from seg_models.data.class_pixels import SAMPLINGS, WEIGHTINGS
from seg_models.data.layouts.opening import KINDS
from seg_models.messages import shown
from seg_models.training.fields import FileName, Length, OneOf, Range, RecipeError, construct
from seg_models.training.rows import read_rows, write_field
from seg_models.yaml_file import YamlError, parse_yaml, read_yaml

__all__ = ["Recipe", "RecipeError", "naming", "read_recipe", "recipe_from_dict"]

# A side of an image in pixels: four times what any data set here has.
Side = Annotated[int, Range(1, 16_384)]
Text = Annotated[str, Length(1, 4_000)]
LIGHTNING = ("32-true", "64-true", "16-true", "16-mixed", "bf16-true", "bf16-mixed", "64", "32", "16", "bf16")
PRECISIONS = (*LIGHTNING, "transformer-engine", "transformer-engine-float16")
STRATEGIES = ("ddp", "fsdp")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu", "hpu")


@dataclass(frozen=True)
class ModelRecipe:
    """Arguments of `build_model`; `options` go to the architecture's constructor."""

    name: str = "superpixel_transformer"
    backbone: str = "resnet50"
    pretrained: bool = False
    image_size: Annotated[list[Side], Length(2, 2)] = field(default_factory=lambda: [512, 512])
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
    """Images and masks (see `data/layouts/`) and the augmentation of their training split."""

    roots: Annotated[list[Text], Length(1, 1_000)] = field(default_factory=lambda: ["data/rooms"])
    kind: Annotated[str, OneOf(KINDS)] = "folder"  # how they lie on disk
    # Folders that validation images are read from instead: to choose by images that are neither trained on nor reported.
    val_roots: list[Text] = field(default_factory=list)
    exclude: str = ""  # text file, a line for each training image (its name without the ending) that is left out
    # This many training images, the same for one seed, are drawn once and no others are seen; 0: all (Segmenter, Table 5).
    subset: Annotated[int, Range(0, 10**9)] = 0
    train_split: Text = "train"
    val_split: Text = "val"
    # (h, w) of a training crop; []: the model's image_size. Smaller crops make quicker steps, for the first part of a run.
    crop: list[Side] = field(default_factory=list)
    scale: list[float] = field(default_factory=lambda: [0.5, 2.0])  # random scale of all five papers
    # What scale 1 is. []: the whole image fits the network's input. [long, short]: the image fits these sides, however they
    # lie, and a crop is taken (mmsegmentation's img_scale).
    resize: list[Side] = field(default_factory=list)
    # A crop is drawn again while one class fills this share of it or more, at most 10 times; 1: never.
    max_class_share: float = 1.0
    photometric_distortion: bool = False  # mmsegmentation's change of colours instead of the project's milder one
    auto_augment: bool = (
        False  # AutoAugment's changes of colours instead (Superpixel Transformer); nothing is moved by it
    )
    # Probability that every surface of a training image gets other colours, before the change of colours (`data/recolour.py`):
    # for rendered images, whose materials are few.
    recolour: float = 0.0
    camera: CameraRecipe = field(default_factory=CameraRecipe)  # after the change of colours
    batch_size: Annotated[int, Range(1, 65_536)] = 8  # of each process
    workers: Annotated[int, Range(0, 256)] = 2
    # "balanced": images are drawn for the classes they show, rare ones more often (see `data/class_pixels.py`).
    sampling: Annotated[str, OneOf(SAMPLINGS)] = "shuffled"
    balance_temperature: Annotated[float, Range(1e-3, 1e3)] = 0.1  # of balanced; the lower, the more of rare classes
    # Weights of the classes in a cross entropy, from their shares of the training pixels.
    class_weights: Annotated[str, OneOf(WEIGHTINGS)] = "none"
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
    # Weight of the distance between the deepest features and those of the backbone as it was at the start (`anchor.py`; 0.005
    # in DAFormer). 0: none. Of the classes named alone, if there are any; they are those that ImageNet shows.
    backbone_anchor: Annotated[float, Range(0, 1e6)] = 0.0
    backbone_anchor_classes: list[str] = field(default_factory=list)
    # Weights are averaged over the steps with this decay; the average is validated and saved. 0: the last weights are.
    average_decay: float = 0.0


@dataclass(frozen=True)
class DistillationRecipe:
    """A trained model to learn from beside the labels (see `distillation.py`)."""

    teacher: Annotated[str, Length(0, 4_000)] = ""  # a checkpoint of seg_models.train; "": none
    weight: Annotated[float, Range(0, 1e6)] = 1.0  # of the loss against the teacher
    label_weight: Annotated[float, Range(0, 1e6)] = 1.0  # of the model's own loss on the labels; 0: the teacher alone
    temperature: Annotated[float, Range(1e-2, 1e3)] = 1.0  # both's scores are divided by it: the higher, the softer
    over: Annotated[str, OneOf(("pixels", "channels"))] = "pixels"  # what the probabilities are compared over
    unlabelled: bool = True  # whether pixels without a label (and the padding of crops) count


@dataclass(frozen=True)
class QuantizationRecipe:
    """Fine-tuning in 8 bits, for `seg_models.export --precision int8` (see `seg_models/quantization.py`)."""

    enabled: bool = False
    calibration_batches: Annotated[int, Range(1, 10_000)] = 8  # of training images, that the ranges begin with
    # Paths of the layers in the deployed form, those together that read the same. `seg_models.train` fills it in.
    layers: list[list[str]] = field(default_factory=list)


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

    precision: Annotated[str, OneOf(PRECISIONS)] = "32-true"
    accelerator: Annotated[str, OneOf(ACCELERATORS)] = "auto"
    devices: Annotated[int, Range(1, 128)] = 1
    num_nodes: Annotated[int, Range(1, 10_000)] = 1
    # Of several processes. "ddp": each has the whole model. "fsdp": weights, gradients and optimiser are split between them.
    strategy: Annotated[str, OneOf(STRATEGIES)] = "ddp"
    # Batches whose gradients are averaged into one step of the optimiser. All steps here are the optimiser's.
    accumulate: Annotated[int, Range(1, 10_000)] = 1
    sync_batchnorm: bool = False  # one mean and variance over all GPUs
    validate_every_steps: Annotated[int, Range(1, 10**9)] = 1_000
    checkpoint_every_steps: Annotated[int, Range(0, 10**9)] = 0  # last.ckpt between validations, too; 0: at those alone
    checkpoint_every_minutes: Annotated[float, Range(0, 10_000)] = 15.0  # since the one before; 0: none
    log_every_steps: Annotated[int, Range(1, 10**9)] = 10  # loss, rates and images a second
    log_images: Annotated[int, Range(0, 64)] = 4  # of the validation split, with truth and prediction, in TensorBoard
    keep_checkpoints: Annotated[int, Range(-1, 100_000)] = 1  # newest ones beside last.ckpt; -1 keeps all
    threads: Annotated[int, Range(0, 256)] = 0  # CPU threads; 0: PyTorch's choice


@dataclass(frozen=True)
class Recipe:
    """The whole file."""

    name: Annotated[str, FileName()] = "model"
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    model: ModelRecipe = field(default_factory=ModelRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    distillation: DistillationRecipe = field(default_factory=DistillationRecipe)
    quantization: QuantizationRecipe = field(default_factory=QuantizationRecipe)
    trainer: TrainerRecipe = field(default_factory=TrainerRecipe)


def recipe_from_dict(content: Any) -> Recipe:
    """A checked Recipe from nested plain values.

    Raises:
        RecipeError: a key that is no field (near ones are listed), or a value of another type or out of its range.
    """
    return construct(Recipe, content, "recipe")


def read_recipe(path: str | Path, overrides: list[str] | None = None, row: str | None = None) -> Recipe:
    """Read a YAML recipe and apply overrides such as `data.roots=[/data/rooms]` or `schedule.steps=100`.

    Args:
        path: a recipe, or with `row` a file of rows (see `rows.py`).
        overrides: applied last.
        row: name of a row of the file.

    Raises:
        RecipeError: no such file, not a mapping, or anything that `recipe_from_dict` refuses; names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"no recipe at {path}; the ones that come with the repository are in config/recipes/")
    with naming(path):
        if row is not None:
            content = read_rows(path).content(row)
        else:
            try:
                content = read_yaml(path)
            except YamlError as error:
                raise RecipeError(str(error)) from error
            if not isinstance(content, dict):
                raise RecipeError(
                    f"holds {type(content).__name__}; expected a mapping with model, data, optimizer, schedule"
                )
            if "rows" in content:
                raise RecipeError(
                    "holds the rows of a paper's tables; choose one with --row, such as "
                    + ", ".join(shown(name) for name in read_rows(path).printed[:3])
                )
        for override in overrides or []:
            _override(content, override)
        return recipe_from_dict(content)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within it, what is found wrong with a recipe is said with the name of its file in front."""
    try:
        yield
    except RecipeError as error:
        text = str(error)
        raise RecipeError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def _override(content: dict[Any, Any], override: str) -> None:
    """Write `a.b=value` into nested mappings."""
    key, separator, value = override.partition("=")
    if not separator:
        raise RecipeError(f"override {shown(override)} has no '='; expected something like schedule.steps=100")
    try:
        write_field(content, key, parse_yaml(value, f"override {shown(override)}"))
    except YamlError as error:
        raise RecipeError(str(error)) from error
