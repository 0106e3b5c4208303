"""The bar of a run: steps made and to make, time left, loss, speed, last mIoU."""

from __future__ import annotations

import sys
from typing import Any

import lightning
from tqdm import tqdm

from seg_models.training.checkpointing import MEASURE
from seg_models.training.run_log import RunLog

# Into a log file a line now and then; each would be a line of its own there.
SECONDS_BETWEEN_LINES = 30.0


class StepProgress(lightning.Callback):
    """A bar over all steps of the run, also after a resume, in the first process.

    Args:
        run_log: whose speed is shown.
    """

    def __init__(self, run_log: RunLog) -> None:
        self.run_log, self.shown, self.miou = run_log, 0, ""
        self.bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Open it."""
        if not trainer.is_global_zero:
            return
        self.shown = trainer.global_step
        interval = 0.5 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES
        self.bar = tqdm(
            total=trainer.max_steps, initial=self.shown, unit="step", mininterval=interval, dynamic_ncols=True
        )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move it on."""
        if self.bar is None or trainer.global_step == self.shown:
            return
        step = trainer.global_step
        if (
            step % self.run_log.recipe.trainer.log_every_steps == 0 or step == 1
        ):  # a loss is waited for on a GPU, so not at each step
            loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
            speed = self.run_log.speed.get("images_per_s", float("nan"))
            self.bar.set_postfix_str(f"loss {loss:.3f}, {speed:.1f} images/s{self.miou}", refresh=False)
        self.bar.update(step - self.shown)
        self.shown = step

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the mIoU."""
        if self.bar is not None and not trainer.sanity_checking and MEASURE in trainer.callback_metrics:
            self.miou = f", mIoU {float(trainer.callback_metrics[MEASURE]):.3f}"

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close it."""
        self.close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Close it, so that the error stands on a line of its own."""
        self.close()

    def close(self) -> None:
        """Leave it as it is."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
