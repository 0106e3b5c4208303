"""A training whose numbers are none any more stops, and says where."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor

# On a GPU each look waits for it, so several steps are looked at together.
STEPS_BETWEEN_LOOKS = 10


class TrainingError(RuntimeError):
    """A training that cannot go on: NaN or infinite loss or weights."""


class FiniteLoss(lightning.Callback):
    """Stops at a loss that is NaN or infinite, within STEPS_BETWEEN_LOOKS steps, and names the first such step.

    Not for precision 16-mixed, where Lightning's scaler leaves out the steps that overflow.
    """

    def __init__(self) -> None:
        self.first_broken: Tensor | None = None  # step of it, -1 while there is none; stays on the device

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss of one step.

        Raises:
            TrainingError: it was NaN or infinite.
        """
        loss = outputs["loss"].detach()
        if self.first_broken is None:
            self.first_broken = torch.tensor(-1, device=loss.device)
        is_first = ~torch.isfinite(loss) & (self.first_broken < 0)
        self.first_broken = torch.where(is_first, trainer.global_step, self.first_broken)
        if loss.device.type == "cpu" or trainer.global_step % STEPS_BETWEEN_LOOKS == 0:
            step = int(self.first_broken)
            if step >= 0:
                raise TrainingError(f"the loss is NaN or infinite at step {step}")
