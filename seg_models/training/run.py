"""A run of a recipe in a folder: started, or gone on with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from seg_models.backbones.conv import ConvBackbone
from seg_models.checkpoints.convolutional import load_convolutional_backbone
from seg_models.checkpoints.fitting import check_fit
from seg_models.checkpoints.released import load_released
from seg_models.checkpoints.trained import read_trained
from seg_models.data.loaders import RecipeData, loaders
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.callbacks import schedule_callbacks
from seg_models.training.optimization import check_optimization
from seg_models.training.recipe import Recipe, RecipeError
from seg_models.training.task import SegmentationTask


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
        RecipeError: nothing to resume from, `out` already holds a run and `resume` is False, an optimiser or schedule that
            cannot be run, or a machine without what `trainer` asks for.
        FolderDataError, ModelError, BackboneError, CheckpointError: data, model or weights cannot be had.
    """
    check_optimization(recipe.optimizer, recipe.schedule)
    last = out / "last.ckpt"
    if resume and not last.is_file():
        raise RecipeError(f"nothing to resume: {last} does not exist; start without --resume")
    if not resume and last.is_file():
        raise RecipeError(f"{out} already holds a run; go on with --resume or choose another --out")
    lightning.seed_everything(recipe.seed, workers=True)
    if recipe.trainer.threads:
        torch.set_num_threads(recipe.trainer.threads)
    table = loaders(recipe)[2]  # errors of the data come before anything is built
    trainer = make_trainer(recipe, out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.yaml").write_text(yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False), encoding="utf-8")
    task = SegmentationTask(
        dataclasses.asdict(recipe), {"names": list(table.names), "palette": [list(c) for c in table.palette]}
    )
    task.model.to(memory_format=torch.channels_last)
    if init_from is not None:
        started = read_trained(init_from)
        check_fit(started.weights, task.model.state_dict(), type(task.model).__name__, str(init_from))
        task.model.load_state_dict(started.weights)
    if init_backbone is not None:
        init_backbone_from(task.model, init_backbone)
    trainer.fit(
        task, datamodule=RecipeData(recipe, task.model.normalization["mean"]), ckpt_path=str(last) if resume else None
    )
    trainer.save_checkpoint(last)  # the callback saves at validations, which need not fall on the last step
    return last


def make_trainer(recipe: Recipe, out: Path) -> lightning.Trainer:
    """Lightning's trainer for a run in the folder `out`.

    Raises:
        RecipeError: the machine has not what `trainer` asks for.
    """
    settings = recipe.trainer
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
            callbacks=[
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
    except MisconfigurationException as error:
        raise RecipeError(f"trainer: {' '.join(str(error).split())}") from error


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
