"""When a run's checkpoints are written, beside the ones of each validation.

    last.ckpt    at validations, at restart points between them (`trainer.checkpoint_every_steps`, `_minutes`), at the end
    best.ckpt    whenever the validation's mIoU is higher than ever before

The result of a run is `last.ckpt`: whoever picks the best of many validations by the images that are then reported, reports
too much. `best.ckpt` is kept beside it, for feeding a robot and for data that has a third set of images.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint

LAST, BEST = "last.ckpt", "best.ckpt"
MEASURE = "val/miou"


class RestartPoints(Checkpoint):
    """Writes last.ckpt behind each validation and between them, always behind a step of the optimiser.

    Not between a step and the validation behind it: a run that is killed in that would otherwise go on without it.

    Args:
        out: folder of the run.
        every_steps: 0 for none.
        every_minutes: since the last checkpoint of any kind; 0 for none. The first process's clock decides for all.
        validate_every: steps from one validation to the next.
    """

    def __init__(self, out: Path, every_steps: int, every_minutes: float, validate_every: int) -> None:
        self.out, self.every_steps, self.every_minutes = out, every_steps, every_minutes
        self.validate_every = validate_every
        self.seen_step = 0
        self.written_at = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Count from here."""
        self.seen_step, self.written_at = trainer.global_step, time.monotonic()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write it; as the last of all callbacks, so that it knows what the others have kept."""
        if not trainer.sanity_checking:
            self.write(trainer)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write it if it is due."""
        step = trainer.global_step
        if step == self.seen_step:  # gradients are still accumulated
            return
        self.seen_step = step
        due = self.every_steps > 0 and step % self.every_steps == 0
        if self.every_minutes:
            late = time.monotonic() - self.written_at >= 60 * self.every_minutes
            due = bool(trainer.strategy.broadcast(late)) or due
        if due and step % self.validate_every and step < trainer.max_steps:
            self.write(trainer)

    def write(self, trainer: lightning.Trainer) -> None:
        """Write it now."""
        trainer.save_checkpoint(self.out / LAST)
        self.written_at = time.monotonic()


class KeepBest(Checkpoint):
    """Writes best.ckpt behind each validation whose mIoU is higher than all before it.

    Args:
        out: folder of the run.
        then: called with its path in the first process, once it is written.
    """

    def __init__(self, out: Path, then: Callable[[Path], None] | None = None) -> None:
        self.out, self.then = out, then
        self.score, self.step = -math.inf, 0

    @property
    def state_key(self) -> str:
        """Its place in a checkpoint."""
        return "KeepBest"

    def state_dict(self) -> dict[str, Any]:
        """The score so far, and the step it was made at."""
        return {"score": self.score, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        score, step = state_dict.get("score"), state_dict.get("step")
        if isinstance(score, float) and isinstance(step, int):
            self.score, self.step = score, step

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write it if it is the best."""
        score = trainer.callback_metrics.get(MEASURE)
        if trainer.sanity_checking or score is None or not float(score) > self.score:  # nan is not
            return
        self.score, self.step = float(score), trainer.global_step
        trainer.save_checkpoint(self.out / BEST)
        if self.then is not None and trainer.is_global_zero:
            self.then(self.out / BEST)
