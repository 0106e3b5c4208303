"""A run of a recipe in a folder: started, or gone on with."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from seg_models.backbones.conv import ConvBackbone
from seg_models.build import outline_from_recipe
from seg_models.checkpoints.convolutional import load_convolutional_backbone
from seg_models.checkpoints.fitting import check_fit
from seg_models.checkpoints.reading import CheckpointError
from seg_models.checkpoints.released import load_released
from seg_models.checkpoints.trained import read_trained
from seg_models.data.folder import FolderDataError
from seg_models.data.labels import LabelTableError
from seg_models.data.loaders import RecipeData, loaders, loss_weights
from seg_models.messages import one_line
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.anchor import BackboneAnchor, anchor_of, save_start
from seg_models.training.callbacks import schedule_callbacks
from seg_models.training.distillation import Distillation, teacher_of
from seg_models.training.finite import FiniteLoss, TrainingError
from seg_models.training.optimization import check_optimization
from seg_models.training.recipe import Recipe, RecipeError
from seg_models.training.resuming import RunCheckpoints, read_resumable
from seg_models.training.task import SegmentationTask

START_OF_BACKBONE = "backbone_start.safetensors"


class RunError(ValueError):
    """A run's folder that is not as it has to be."""


def train(
    recipe: Recipe, out: Path, resume: bool = False, init_from: Path | None = None, init_backbone: Path | None = None
) -> Path:
    """Run a recipe.

    Args:
        recipe: what to train.
        out: folder of the run; made if need be.
        resume: go on from out/last.ckpt.
        init_from: start from the weights of this checkpoint of the same model (fine-tuning).
        init_backbone: start from a released file of the backbone or the model.

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
    last = out / "last.ckpt"
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
    trainer = make_trainer(recipe, out, files, started)
    task = SegmentationTask(
        dataclasses.asdict(recipe), {"names": list(table.names), "palette": [list(c) for c in table.palette]}
    )
    task.configure_optimizers()
    task.model.class_weights = weights_of_classes(recipe, task.model)
    task.model.to(memory_format=torch.channels_last)
    if init_from is not None:
        start = read_trained(init_from)
        check_fit(start.weights, task.model.state_dict(), type(task.model).__name__, str(init_from))
        task.model.load_state_dict(start.weights)
    if init_backbone is not None:
        init_backbone_from(task.model, init_backbone)
    anchor = anchor_of(recipe, task.model, table.names, out / START_OF_BACKBONE if resume else None)
    teacher = teacher_of(recipe)
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
        (self.out / "recipe.yaml").write_text(content, encoding="utf-8")
        if self.anchor:
            save_start(self.anchor, self.out / START_OF_BACKBONE)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write it."""
        self.write()
        self.written = True


def make_trainer(recipe: Recipe, out: Path, files: RunCheckpoints, started: WriteRecipe) -> lightning.Trainer:
    """Lightning's trainer for a run in the folder `out`.

    Raises:
        RecipeError: the machine has not what `trainer` asks for.
    """
    settings = recipe.trainer
    cores = os.cpu_count() or 1
    if settings.accelerator == "cpu" and settings.devices > cores:
        raise RecipeError(
            f"trainer.devices is {settings.devices}; this machine has {cores} CPU cores, each device needs one"
        )
    finite = [] if settings.precision in ("16-mixed", "16") else [FiniteLoss()]
    try:
        return lightning.Trainer(
            max_steps=recipe.schedule.steps,
            precision=settings.precision,  # type: ignore[arg-type]
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            sync_batchnorm=settings.sync_batchnorm,
            gradient_clip_val=recipe.optimizer.clip_grad_norm or None,
            val_check_interval=min(settings.validate_every_steps, recipe.schedule.steps),
            check_val_every_n_epoch=None,
            use_distributed_sampler=False,  # EpochShuffle already splits each epoch
            # Bilinear resizing has no deterministic backward pass on CUDA, so a warning is the most that can be asked.
            deterministic="warn",
            logger=TensorBoardLogger(out, name="", version="tensorboard"),
            log_every_n_steps=10,
            plugins=[files],
            callbacks=[
                started,
                *finite,
                # The last weights are the result. None is picked by its score: the validation rooms stay unseen.
                ModelCheckpoint(
                    out,
                    filename="step{step}",
                    auto_insert_metric_name=False,
                    save_last=True,
                    monitor="step",
                    mode="max",
                    save_top_k=settings.keep_checkpoints,
                ),
                LearningRateMonitor("step"),
                TQDMProgressBar(refresh_rate=10),
                *schedule_callbacks(recipe),
            ],
        )
    except (MisconfigurationException, ValueError, RuntimeError, ImportError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(f"trainer: {one_line(error)}") from error


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
