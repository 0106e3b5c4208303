"""Lines of metrics.jsonl, and the warning that loading is what is slow."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from seg_models.data.folder import ResumableLoader
from seg_models.training.checkpointing import MEASURE
from seg_models.training.recipe import Recipe
from seg_models.training.run_folder import ENVIRONMENT, METRICS, append_line, environment, keep_lines_until
from seg_models.training.task import SegmentationTask

# A loader that is waited for during a larger share of the time is what makes a run slow.
SLOW_SHARE = 0.2
FEWEST_STEPS = 20  # before that is said


class RunLog(lightning.Callback):
    """Writes environment.jsonl and metrics.jsonl, whose numbers `run_folder.py` explains.

    Args:
        recipe: of the run.
        out: its folder.

    Attributes:
        speed: images a second of the last line: `images_per_s`, `step_images_per_s`, `loader_images_per_s`.
    """

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.speed: dict[str, float] = {}
        self.sums: dict[str, Tensor] = {}  # of the losses of the step that is being made
        self.batches = 0  # of it
        self.seen_step = 0
        self.rate = 0.0  # the optimiser's
        self.batch_start = 0.0
        self.in_steps_s, self.counted_batches = 0.0, 0  # since the last line
        self.waited_before_s = 0.0
        self.waited_s, self.spent_s, self.looked_steps, self.has_warned = 0.0, 0.0, 0, False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say where the run is made, and drop the lines of steps that are made again."""
        step = self.seen_step = trainer.global_step
        if trainer.is_global_zero:
            append_line(self.out / ENVIRONMENT, environment() | {"step": step, "processes": trainer.world_size})
            keep_lines_until(self.out / METRICS, step)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the rate and the time."""
        self.rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        self.batch_start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add up; write a line where one is due."""
        assert isinstance(pl_module, SegmentationTask)
        self.in_steps_s += time.perf_counter() - self.batch_start
        self.counted_batches += 1
        self.batches += 1
        for name, value in pl_module.terms.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        step = trainer.global_step
        if step == self.seen_step:  # gradients are still accumulated
            return
        self.seen_step = step
        if step % self.recipe.trainer.log_every_steps == 0 or step in (1, trainer.max_steps):
            self.write(trainer, step)
        self.sums, self.batches = {}, 0

    def write(self, trainer: lightning.Trainer, step: int) -> None:
        """A line of the step that was just made; all processes come here."""
        names = list(self.sums)
        means = torch.stack([self.sums[name].float() for name in names]) / self.batches
        reduced = trainer.strategy.reduce(means, reduce_op="mean")
        assert isinstance(reduced, Tensor)
        self.measure_speed(trainer)
        if trainer.is_global_zero:
            terms = {f"loss/{name}": float(value) for name, value in zip(names, reduced, strict=True)}
            line = {"step": step, "epoch": trainer.current_epoch, "loss": sum(terms.values()), **terms}
            append_line(self.out / METRICS, line | {"lr": self.rate} | self.speed)
            if trainer.logger is not None:
                trainer.logger.log_metrics({f"speed/{name}": value for name, value in self.speed.items()}, step)

    def measure_speed(self, trainer: lightning.Trainer) -> None:
        """Fill `speed` with what was since the last line, and warn where the loader is waited for."""
        loader = trainer.train_dataloader
        assert isinstance(loader, ResumableLoader)
        waited = loader.waited_s - self.waited_before_s
        self.waited_before_s = loader.waited_s
        images = self.counted_batches * self.recipe.data.batch_size * trainer.world_size
        self.speed = {
            "images_per_s": round(images / (waited + self.in_steps_s), 2),
            "step_images_per_s": round(images / self.in_steps_s, 2),
        }
        rate = loader.samples.rate()
        if not math.isnan(rate):  # there were samples
            self.speed["loader_images_per_s"] = round(rate * trainer.world_size, 2)
        if self.seen_step > 1:  # the first batch waits for the loader's processes to start
            self.waited_s, self.spent_s = self.waited_s + waited, self.spent_s + waited + self.in_steps_s
            self.looked_steps += self.counted_batches
        self.in_steps_s, self.counted_batches = 0.0, 0
        if self.waited_s > SLOW_SHARE * self.spent_s and self.looked_steps >= FEWEST_STEPS and not self.has_warned:
            self.has_warned = True
            share, settings = self.waited_s / self.spent_s, self.recipe.data
            rank_zero_warn(
                f"loading is what is slow: {share:.0%} of the time is spent waiting for images. The loader gives "
                f"{self.speed.get('loader_images_per_s', rate)} images/s, the step could take "
                f"{self.speed['step_images_per_s']}; raise data.workers (it is {settings.workers}), or keep smaller images on "
                "a faster disk"
            )

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A line of the validation."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        found = {name: float(trainer.callback_metrics[name]) for name in (MEASURE, "val/pixel_accuracy")}
        append_line(self.out / METRICS, {"step": trainer.global_step, "epoch": trainer.current_epoch, **found})
