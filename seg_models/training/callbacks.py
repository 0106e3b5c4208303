"""What changes over a run beside the learning rate."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import EMAWeightAveraging

from seg_models.architectures.superpixel_transformer.deployed import DeployedSuperpixelTransformer
from seg_models.architectures.superpixel_transformer.model import SuperpixelTransformer
from seg_models.training.recipe import Recipe, RecipeError
from seg_models.training.task import SegmentationTask


def hard_pixel_share(step: int, steps: int, start: float, end: float) -> float:
    """Share of each image's pixels in the loss at a step: from `start` in a straight line to `end` after 3/4 of the run.

    All pixels teach quickly what most of an image is; the hardest ones, alone from the start, are mostly those that nothing
    can be learnt from yet.
    """
    done = min(1.0, step / (0.75 * steps))
    return start + (end - start) * done


class FallingHardPixelShare(lightning.Callback):
    """Sets the model's share of hard pixels before each step (Superpixel Transformer, IV-A, with a slower start).

    Args:
        start: the share at step 0, in (0, 1].
        steps: of the run.
    """

    def __init__(self, start: float, steps: int) -> None:
        self.start, self.steps = start, steps
        self.end: float | None = None

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set it by the number of steps made, so that a resumed run goes on with it."""
        assert isinstance(pl_module, SegmentationTask)
        model = pl_module.model
        assert isinstance(model, SuperpixelTransformer | DeployedSuperpixelTransformer)
        if self.end is None:
            self.end = model.hard_pixel_fraction
        model.hard_pixel_fraction = hard_pixel_share(trainer.global_step, self.steps, self.start, self.end)


def schedule_callbacks(recipe: Recipe) -> list[lightning.Callback]:
    """The callbacks that a recipe asks for beside the ones that every run has.

    Raises:
        RecipeError: a share or a decay outside its range, or a share of a model that has none.
    """
    callbacks: list[lightning.Callback] = []
    start, decay = recipe.schedule.hard_pixels_from, recipe.optimizer.average_decay
    if not 0 <= start <= 1:
        raise RecipeError(f"schedule.hard_pixels_from is {start:g}; expected a number in 0..1")
    if not 0 <= decay < 1:
        raise RecipeError(f"optimizer.average_decay is {decay:g}; expected a number at least 0 and below 1")
    if start and recipe.model.name != "superpixel_transformer":
        raise RecipeError(
            "schedule.hard_pixels_from is of superpixel_transformer, whose loss counts the hardest pixels; "
            f"the model is {recipe.model.name}"
        )
    if start:
        callbacks.append(FallingHardPixelShare(start, recipe.schedule.steps))
    if decay:
        # Averages from the warm-up on: what comes before is far from anything.
        callbacks.append(EMAWeightAveraging(decay=decay, update_starting_at_step=recipe.schedule.warmup_steps))
    return callbacks
