"""What every architecture has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from seg_models.backbones import Normalization
from seg_models.prediction import Prediction


class Decision(NamedTuple):
    """What a robot needs of a prediction, a pixel.

    Attributes:
        labels: int64 (B, H, W), the class of the largest score.
        confidence: float (B, H, W), its softmax probability, in 0..1.
        superpixels: int64 (B, H, W), raster index of the owning superpixel, or None.
    """

    labels: Tensor
    confidence: Tensor
    superpixels: Tensor | None


def most_probable(logits: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Index and softmax probability of the largest score along `dim`, without making the whole softmax."""
    best = logits.max(dim=dim, keepdim=True)
    probability = 1.0 / (logits - best.values).exp().sum(dim=dim)
    return best.indices.squeeze(dim), probability


class SegmentationModel(nn.Module, ABC):
    """Base of all architectures.

    Attributes:
        backbone: the injected network; its parameters form the optimiser's slower group.
        normalization: mean and std of the input, RGB, 0..255 units.
        num_classes: K.
        image_size: (H, W) that the learned grids are made for.
        stride: sides of an image that are no multiple of it are padded inside the model.
        superpixel_grid: (rows, cols) at `image_size`, None for models without superpixels.
    """

    backbone: nn.Module
    normalization: Normalization
    num_classes: int
    image_size: tuple[int, int]
    stride: int
    superpixel_grid: tuple[int, int] | None = None

    @abstractmethod
    def forward(self, image: Tensor) -> Prediction:
        """Segment a normalised float batch (B, 3, H, W)."""

    @abstractmethod
    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """The paper's loss terms, already weighted, by name; their sum is minimised. Labels: int64 (B, H, W)."""

    def decide(self, image: Tensor) -> Decision:
        """Labels, confidence and superpixels of a normalised float batch (B, 3, H, W); the deployment model's inside."""
        prediction = self(image)
        labels, confidence = most_probable(prediction.logits, dim=1)
        return Decision(labels, confidence, prediction.superpixels)
