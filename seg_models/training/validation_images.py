"""A few images of each validation in TensorBoard: image, truth and prediction side by side."""

from __future__ import annotations

from typing import Any

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from seg_models.losses import IGNORE
from seg_models.training.task import SegmentationTask

TALLEST = 256  # rows of each: a log of many validations stays small


def side_by_side(image: Tensor, labels: Tensor, predicted: Tensor, palette: Tensor) -> Tensor:
    """uint8 (3, h, 3 w): the image, the truth (black where there is none) and the prediction.

    Args:
        image: RGB (3, H, W) in 0..255.
        labels: int64 (H, W) with IGNORE.
        predicted: int64 (H, W).
        palette: uint8 (K, 3).
    """
    colours = torch.cat([palette, torch.zeros(1, 3, dtype=palette.dtype)])  # the last for IGNORE
    masks = [colours[mask.masked_fill(mask == IGNORE, len(palette))].permute(2, 0, 1) for mask in (labels, predicted)]
    panels = torch.stack([image.clamp(0, 255).to(torch.uint8), *masks])  # (3, 3, H, W)
    if panels.shape[-2] > TALLEST:
        size = (TALLEST, max(1, round(panels.shape[-1] * TALLEST / panels.shape[-2])))
        panels = torch.cat(
            [
                F.interpolate(panels[:1].float(), size, mode="area").to(torch.uint8),
                F.interpolate(panels[1:].float(), size, mode="nearest").to(torch.uint8),
            ]
        )
    return torch.cat(list(panels), dim=2)


class ValidationImages(lightning.Callback):
    """Writes the first images of the first process's share of each validation.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.count, self.written = count, 0

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin anew."""
        self.written = 0

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write those of one batch."""
        if trainer.sanity_checking or not trainer.is_global_zero or self.written >= self.count:
            return
        assert isinstance(pl_module, SegmentationTask)
        logger = trainer.logger
        if not isinstance(logger, TensorBoardLogger):
            return
        palette = torch.tensor(pl_module.table.palette, dtype=torch.uint8)
        for image, labels, predicted in zip(*(x.cpu() for x in (*batch, outputs)), strict=True):
            if self.written == self.count:
                return
            picture = side_by_side(image, labels, predicted, palette)
            logger.experiment.add_image(f"val/image{self.written}", picture, trainer.global_step)
            self.written += 1
