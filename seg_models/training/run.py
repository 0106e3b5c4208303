"""A run of a recipe in a folder: started, or gone on with."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import lightning
import torch
import yaml
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from seg_models.atomic_file import whole_file
from seg_models.backbones.conv import ConvBackbone
from seg_models.build import build_from_recipe, outline_from_recipe
from seg_models.checkpoints.convolutional import load_convolutional_backbone
from seg_models.checkpoints.fitting import check_fit, fit_grid
from seg_models.checkpoints.reading import CheckpointError
from seg_models.checkpoints.released import load_released
from seg_models.checkpoints.trained import read_trained
from seg_models.data.folder import FolderDataError
from seg_models.data.labels import LabelTableError
from seg_models.data.loaders import RecipeData, loaders, loss_weights
from seg_models.messages import one_line
from seg_models.quantization import calibrate, quantize
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.anchor import BackboneAnchor, anchor_of, save_start
from seg_models.training.checkpointing import LAST
from seg_models.training.distillation import Distillation, Teacher, teacher_of
from seg_models.training.finite import TrainingError
from seg_models.training.optimization import check_optimization
from seg_models.training.recipe import Recipe, RecipeError
from seg_models.training.resuming import RunCheckpoints, read_resumable
from seg_models.training.run_folder import RECIPE
from seg_models.training.sharding import ShardedTask
from seg_models.training.task import SegmentationTask, network_input
from seg_models.training.trainer import make_trainer

START_OF_BACKBONE = "backbone_start.safetensors"


class RunError(ValueError):
    """A run's folder that is not as it has to be."""


def train(
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    init_from: Path | None = None,
    init_backbone: Path | None = None,
    teacher: Teacher | None = None,
    on_best: Callable[[Path], None] | None = None,
) -> Path:
    """Run a recipe.

    Args:
        recipe: what to train.
        out: folder of the run; made if need be.
        resume: go on from out/last.ckpt.
        init_from: start from the weights of this checkpoint of the same model (fine-tuning).
        init_backbone: start from a released file of the backbone or the model.
        teacher: of `recipe.distillation`, where it is no checkpoint of this package.
        on_best: called with the path of best.ckpt whenever that was written.

    Returns:
        path of the last checkpoint.

    Raises:
        RunError: nothing to resume from, or `out` already holds a run and `resume` is False.
        RecipeError: data that is not there, a model that cannot be built, an optimiser or schedule that cannot be run, or a
            machine without what `trainer` asks for.
        FolderDataError: an image or mask that is found broken on the way.
        BackboneError, CheckpointError: weights cannot be had.
        TrainingError: loss or weights became NaN or infinite.
    """
    check_optimization(recipe.optimizer, recipe.schedule)
    check_quantization(recipe, resume or init_from is not None)
    last = out / LAST
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; choose another --out for the run's folder")
    if resume and not last.is_file():
        raise RunError(f"nothing to resume: {last} does not exist; start without --resume")
    if not resume and last.is_file():
        raise RunError(f"{out} already holds a run; go on with --resume or choose another --out")
    lightning.seed_everything(recipe.seed, workers=True)
    if recipe.trainer.threads:
        torch.set_num_threads(recipe.trainer.threads)
    # All that can be refused is refused before anything is written.
    try:
        table = loaders(recipe)[2]
    except (FolderDataError, LabelTableError) as error:
        raise RecipeError(f"data: {error}") from error
    outline_from_recipe(recipe, len(table.names))
    files, started = RunCheckpoints(), WriteRecipe(recipe, out)
    trainer = make_trainer(recipe, out, files, started, on_best)
    kind = ShardedTask if recipe.trainer.strategy == "fsdp" else SegmentationTask
    task = kind(dataclasses.asdict(recipe), {"names": list(table.names), "palette": [list(c) for c in table.palette]})
    task.configure_optimizers()
    task.model.class_weights = weights_of_classes(recipe, task.model)
    task.model.to(memory_format=torch.channels_last)
    if init_from is not None:
        start_from(task, init_from)
    if recipe.quantization.enabled and not resume:
        begin_ranges(task)
    if init_backbone is not None:
        init_backbone_from(task.model, init_backbone)
    anchor = anchor_of(recipe, task.model, table.names, out / START_OF_BACKBONE if resume else None)
    teacher = teacher or teacher_of(recipe)
    if anchor:
        task.guides.append(anchor)
        started.anchor = None if resume else anchor
    if teacher:
        task.guides.append(Distillation(teacher, table.names, recipe.distillation))
    if resume:
        files.checked = read_resumable(last, task)
    data = RecipeData(recipe, task.model.normalization["mean"])
    try:
        trainer.fit(task, datamodule=data, ckpt_path=str(last) if resume else None)
        trainer.save_checkpoint(last)  # the callback saves at validations, which need not fall on the last step
    except TrainingError as error:
        raise TrainingError(f"{error}; {advice(recipe, last)}") from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RuntimeError) as error:
        if started.written or not resume or isinstance(error, FolderDataError | RecipeError | CheckpointError):
            raise
        # What only Lightning knows of its own state.
        raise CheckpointError(f"{last} cannot be resumed, {type(error).__name__}: {one_line(error, 200)}") from error
    return last


def start_from(task: SegmentationTask, path: Path) -> None:
    """Take the weights of a checkpoint of the same model; of its trained form, too, for one that learns in 8 bits.

    Learned grids may be of another size (see `checkpoints.fitting.fit_grid`), as for finer superpixels or another input.

    Raises:
        CheckpointError: unreadable, or of another model.
    """
    start = read_trained(path)
    layers = task.recipe.quantization.layers
    if layers and not start.recipe.quantization.layers:
        plain = build_from_recipe(task.recipe, len(task.table.names), pretrained=False)
        load_trained(plain, start.weights, path)
        task.model.load_state_dict(quantize(plain, layers).state_dict())
    else:
        load_trained(task.model, start.weights, path)


def load_trained(model: nn.Module, trained: Mapping[str, Tensor], path: Path) -> None:
    """Load the weights of the checkpoint at `path`, grids resized; raises CheckpointError if they do not fit."""
    own = model.state_dict()
    weights = {
        key: fit_grid(model, key, value, own[key].shape, str(path))
        if key in own and value.ndim == own[key].ndim and value.shape != own[key].shape
        else value
        for key, value in trained.items()
    }
    check_fit(weights, own, type(model).__name__, str(path), original=trained)
    model.load_state_dict(weights)


def check_quantization(recipe: Recipe, is_trained: bool) -> None:
    """Raise RecipeError for fine-tuning in 8 bits that cannot be."""
    settings, crop = recipe.quantization, recipe.data.crop
    if not settings.enabled:
        if settings.layers:
            raise RecipeError("quantization.layers are filled in for quantization.enabled=true; leave them out")
        return
    if not settings.layers:
        raise RecipeError("quantization has no layers; python -m seg_models.train finds them")
    if not is_trained:
        raise RecipeError("quantization fine-tunes a trained model; name its checkpoint with --init-from")
    if crop and crop != recipe.model.image_size:
        raise RecipeError(
            f"data.crop is {crop}; in 8 bits the deployed form is trained, which takes model.image_size, "
            f"{recipe.model.image_size}, alone: set data.crop=[]"
        )
    if recipe.trainer.strategy == "fsdp":
        raise RecipeError("quantization is not for trainer.strategy fsdp; use ddp")


def begin_ranges(task: SegmentationTask) -> None:
    """Let the ranges of a model that learns in 8 bits begin where some batches' values lie; the same in each process."""
    mean = task.model.normalization["mean"]
    batches = itertools.islice(loaders(task.recipe, mean=mean)[0], task.recipe.quantization.calibration_batches)
    calibrate(task.model, (network_input(image, task.model.normalization) for image, _ in batches))


def weights_of_classes(recipe: Recipe, model: SegmentationModel) -> Tensor | None:
    """Weights of the classes in the loss, float32 (K,), None for none.

    Raises:
        RecipeError: a model whose loss has no use for them, or masks that cannot be counted.
    """
    if recipe.data.class_weights != "none" and not model.weighs_classes:
        raise RecipeError(
            f"data.class_weights is {recipe.data.class_weights}; {recipe.model.name} has no plain cross entropy over pixels, "
            "expected none"
        )
    try:
        return loss_weights(recipe)
    except FolderDataError as error:
        raise RecipeError(f"data: {error}") from error


def advice(recipe: Recipe, last: Path) -> str:
    """What to do about a training whose numbers have become NaN."""
    optimizer = recipe.optimizer
    cures = [f"lower optimizer.lr ({optimizer.lr:g})"]
    if not optimizer.clip_grad_norm:
        cures.append("set optimizer.clip_grad_norm (1.0)")
    if not recipe.trainer.precision.startswith("32"):
        cures.append(f"set trainer.precision to 32-true (it is {recipe.trainer.precision})")
    saved = f"go on from {last} with --resume" if last.is_file() else "nothing was saved, start again"
    return f"{', '.join(cures)}, then {saved}"


class WriteRecipe(lightning.Callback):
    """Leaves the recipe as it was run in the run's folder, once the training starts and so nothing was refused."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out, self.written = recipe, out, False
        self.anchor: BackboneAnchor | None = None

    @rank_zero_only
    def write(self) -> None:
        """Write out/recipe.yaml, and of a new run the start of an anchored backbone."""
        self.out.mkdir(parents=True, exist_ok=True)
        content = yaml.safe_dump(dataclasses.asdict(self.recipe), sort_keys=False)
        with whole_file(self.out / RECIPE) as file:
            file.write(content.encode())
        if self.anchor:
            save_start(self.anchor, self.out / START_OF_BACKBONE)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write it."""
        self.write()
        self.written = True


def init_backbone_from(model: SegmentationModel, path: Path) -> None:
    """Start from a released file: of the backbone, such as timm's, or of the whole model. Prints what was loaded.

    Raises:
        CheckpointError: unreadable, or not of this model or its backbone.
    """
    is_convolutional = isinstance(model.backbone, ConvBackbone)
    report = load_convolutional_backbone(model, path) if is_convolutional else load_released(model, path)
    rank_zero_only(print)(
        f"{path}: {report.loaded} tensors loaded, {len(report.resized)} of them resized, {len(report.derived)} made of them; "
        f"{len(report.unused)} of the file not used, {len(report.untouched)} of the model not in it"
    )
