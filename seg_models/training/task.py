"""What Lightning trains: a model with its recipe."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from seg_models.build import model_from_recipe
from seg_models.data.labels import LabelTable
from seg_models.normalization import Normalization, normalize
from seg_models.training.depthwise import QuickDepthwiseGradients
from seg_models.training.freezing import fix_norms, fix_statistics, freeze_parts
from seg_models.training.guidance import Guide
from seg_models.training.metrics import ConfusionMatrix
from seg_models.training.optimization import make_optimizer, make_scheduler
from seg_models.training.recipe import recipe_from_dict


def network_input(image: Tensor, normalization: Normalization) -> Tensor:
    """`normalize`, channels last: the layout that convolutions are quickest in."""
    return normalize(image, normalization).contiguous(memory_format=torch.channels_last)


class SegmentationTask(lightning.LightningModule):
    """A model with its recipe: loss, optimiser, schedule, validation.

    The checkpoint carries the recipe and the label table as plain values, so it can be evaluated and exported alone.
    """

    def __init__(self, recipe: dict[str, Any], table: dict[str, Any], pretrained: bool | None = None) -> None:
        super().__init__()
        self.save_hyperparameters("recipe", "table")
        self.recipe = recipe_from_dict(recipe)
        self.table = LabelTable(tuple(table["names"]), tuple(tuple(c) for c in table["palette"]))  # type: ignore[arg-type]
        self.model = model_from_recipe(self.recipe, len(self.table.names), pretrained)
        freeze_parts(self.model, self.recipe.optimizer.frozen_parts)
        self.confusion = ConfusionMatrix(len(self.table.names))
        self.guides: list[Guide] = []  # set before the training; no modules of this one
        self.terms: dict[str, Tensor] = {}  # of the loss of the last batch, without gradients

    def train(self, mode: bool = True) -> SegmentationTask:
        """As nn.Module.train, but what the recipe freezes stays frozen."""
        super().train(mode)
        if mode:
            settings = self.recipe.optimizer
            fix_statistics(self.model, settings.frozen_parts, settings.frozen_batch_norm)
            if self.recipe.quantization.enabled:  # in the file a norm is a constant factor behind its layer
                fix_norms(self.model)
        return self

    def on_train_start(self) -> None:
        """Lightning takes a module's mode as it is, and a new one is in training mode without `train` ever being called."""
        self.train()
        for guide in self.guides:
            guide.to(self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Dropout and stochastic depth of a batch follow from the seed, the process and the batch's number alone, as its
        augmentation does: a run that is gone on with draws what it would have drawn."""
        number = self.trainer.fit_loop.total_batch_idx
        seed = np.random.SeedSequence((self.recipe.seed, self.global_rank, number)).generate_state(2, np.uint32)
        torch.manual_seed(int(seed[0]) << 32 | int(seed[1]))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """One batch: images (B, 3, H, W) in 0..255, int64 labels (B, H, W) -> the sum of the paper's loss terms, and of what
        the guides add."""
        image, labels = batch
        with QuickDepthwiseGradients(), ExitStack() as watched:
            for guide in self.guides:
                watched.enter_context(guide.watching(self.model))
            prediction = self.model(network_input(image, self.model.normalization))
        label_weight = math.prod(guide.label_weight for guide in self.guides)
        terms = {name: label_weight * value for name, value in self.model.loss(prediction, labels).items()}
        for guide in self.guides:
            terms |= guide.terms(image, labels, prediction, self.model)
        loss = torch.stack(list(terms.values())).sum()
        self.log("loss", loss, prog_bar=True)
        self.terms = {name: value.detach() for name, value in terms.items()}
        self.log_dict({f"loss/{name}": value for name, value in self.terms.items()})
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start counting anew."""
        self.confusion = ConfusionMatrix(len(self.table.names))

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Count one batch at the network's size; returns the classes, int64 (B, H, W)."""
        image, labels = batch
        predicted = self.model(network_input(image, self.model.normalization)).logits.argmax(1)
        self.confusion.add(predicted, labels)
        return predicted

    def on_validation_epoch_end(self) -> None:
        """Log mIoU and pixel accuracy over all processes."""
        if self.trainer.world_size > 1:
            gathered = self.all_gather(self.confusion.counts.to(self.device))
            assert isinstance(gathered, Tensor)
            self.confusion.counts = gathered.sum(0).cpu()
        scores = self.confusion.scores()
        self.log("val/miou", scores.miou, prog_bar=True)
        self.log("val/pixel_accuracy", scores.pixel_accuracy)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser, and its schedule stepped with it."""
        optimizer = make_optimizer(self.model, self.recipe.optimizer)
        scheduler = make_scheduler(optimizer, self.recipe.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
