"""What a network that does not learn has to say about one that does: further terms of the loss.

    frozen teacher ---(the same augmented crop)---> class probabilities    `distillation.py`
    frozen start of the backbone -----------------> features               `anchor.py`

A guide is no part of the task that is trained, so neither checkpoint, optimiser nor averaged weights know of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel


class Guide(ABC):
    """Base of both.

    Attributes:
        label_weight: what the loss on the labels is multiplied with beside this guide.
    """

    label_weight = 1.0

    def __deepcopy__(self, memo: dict[int, Any]) -> Guide:
        """Itself: averaging weights copies the task, and what never changes needs no copy."""
        return self

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Move it to where the model is trained."""

    def watching(self, model: SegmentationModel) -> AbstractContextManager[object]:
        """The model's forward pass is run within this."""
        return nullcontext()

    @abstractmethod
    def terms(
        self, image: Tensor, labels: Tensor, prediction: Prediction, model: SegmentationModel
    ) -> dict[str, Tensor]:
        """Terms of the loss, already weighted, by name.

        Args:
            image: the batch before normalisation, (B, 3, H, W) in 0..255.
            labels: int64 (B, H, W) with IGNORE.
            prediction: of the model for it, in training mode.
            model: that is trained; the pass was run within `watching`.
        """


def frozen(network: nn.Module) -> nn.Module:
    """The network in eval mode, without gradients. In place."""
    return network.eval().requires_grad_(False)
