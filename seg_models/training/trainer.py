"""Lightning's trainer for a recipe: devices and processes, and everything that looks on or writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from seg_models.messages import one_line
from seg_models.training.callbacks import schedule_callbacks
from seg_models.training.checkpointing import KeepBest, RestartPoints
from seg_models.training.finite import FiniteLoss
from seg_models.training.progress import StepProgress
from seg_models.training.recipe import Recipe, RecipeError
from seg_models.training.resuming import RunCheckpoints
from seg_models.training.run_log import RunLog
from seg_models.training.sharding import ShardedStrategy
from seg_models.training.validation_images import ValidationImages

# More processes than that on the cores there are only wait for each other.
MOST_PROCESSES_A_CORE = 2


def make_trainer(
    recipe: Recipe,
    out: Path,
    files: RunCheckpoints,
    started: lightning.Callback,
    on_best: Callable[[Path], None] | None = None,
) -> lightning.Trainer:
    """Lightning's trainer for a run in the folder `out`.

    Args:
        recipe: of the run.
        out: its folder.
        files: reads and writes its checkpoints.
        started: makes the folder when the training starts.
        on_best: see `KeepBest`.

    Raises:
        RecipeError: the machine has not what `trainer` asks for.
    """
    settings = recipe.trainer
    cores = os.cpu_count() or 1
    if settings.accelerator == "cpu" and settings.devices > MOST_PROCESSES_A_CORE * cores:
        raise RecipeError(
            f"trainer.devices is {settings.devices}; this machine has {cores} CPU cores, expected at most "
            f"{MOST_PROCESSES_A_CORE} processes on each"
        )
    validate_every = min(settings.validate_every_steps, recipe.schedule.steps)
    log = RunLog(recipe, out)
    # Checkpoints come last, of themselves, when everything else has its state.
    callbacks: list[lightning.Callback] = [
        started,
        *([] if settings.precision in ("16-mixed", "16") else [FiniteLoss()]),
        log,
        StepProgress(log),
        *([ValidationImages(settings.log_images)] if settings.log_images else []),
        LearningRateMonitor("step"),
        *schedule_callbacks(recipe),
        KeepBest(out, on_best),
        # The last weights are the result. None is picked by its score: the validation rooms stay unseen.
        ModelCheckpoint(
            out,
            filename="step{step}",
            auto_insert_metric_name=False,
            monitor="step",
            mode="max",
            save_top_k=settings.keep_checkpoints,
        ),
        RestartPoints(out, settings.checkpoint_every_steps, settings.checkpoint_every_minutes, validate_every),
    ]
    try:
        return lightning.Trainer(
            max_steps=recipe.schedule.steps,
            precision=settings.precision,  # type: ignore[arg-type]
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=strategy(recipe),
            sync_batchnorm=settings.sync_batchnorm,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=recipe.optimizer.clip_grad_norm or None,
            val_check_interval=validate_every * settings.accumulate,  # counted in batches there
            check_val_every_n_epoch=None,
            use_distributed_sampler=False,  # EpochShuffle already splits each epoch
            # Bilinear resizing has no deterministic backward pass on CUDA, so a warning is the most that can be asked.
            deterministic="warn",
            default_root_dir=out,
            logger=TensorBoardLogger(out, name="", version="tensorboard"),
            log_every_n_steps=settings.log_every_steps,
            enable_progress_bar=False,  # StepProgress is one of the whole run
            plugins=plugins(recipe, files),
            callbacks=callbacks,
        )
    except (MisconfigurationException, ValueError, RuntimeError, ImportError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(f"trainer: {one_line(error)}") from error


def plugins(recipe: Recipe, files: RunCheckpoints) -> list[Any]:
    """What Lightning is to use in place of its own.

    Under SLURM it would write a checkpoint of its own at the signal before a job's end, and submit the job again: a job
    script does that better, with `--resume` (docs/training.md).

    Raises:
        ValueError: the job has other nodes and tasks than the recipe.
    """
    if not SLURMEnvironment.detect():
        return [files]
    slurm = SLURMEnvironment(auto_requeue=False)
    slurm.validate_settings(recipe.trainer.devices, recipe.trainer.num_nodes)
    return [files, slurm]


def strategy(recipe: Recipe) -> Any:
    """How several processes share the work.

    Raises:
        RecipeError: what cannot be split between processes.
    """
    settings = recipe.trainer
    if settings.strategy == "ddp":
        return "auto"  # one process alone needs none
    if recipe.optimizer.average_decay:
        raise RecipeError(
            "trainer.strategy fsdp does not average weights, which are in pieces; set optimizer.average_decay to 0 or the "
            "strategy to ddp"
        )
    return ShardedStrategy(settings.devices * settings.num_nodes)
