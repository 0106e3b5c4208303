"""What every architecture has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.losses import check_labels
from seg_models.normalization import Normalization
from seg_models.ops import neighbourhood as nb
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

    Args:
        num_classes: K, at least 1.
        image_size: (H, W), at least 1 pixel each.

    Attributes:
        backbone: the injected network; its parameters form the optimiser's slower group.
        normalization: mean and std of the input, RGB, 0..255 units.
        num_classes: K.
        image_size: (H, W) that the learned grids are made for.
        stride: sides of an image that are no multiple of it are padded inside the model.
        superpixel_grid: (rows, cols) at `image_size`, None for models without superpixels.
        class_weights: float (K,) that a cross entropy multiplies pixels' losses with, None for none; a checkpoint leaves
            them out. Only models with `weighs_classes` look at them.

    Raises:
        ValueError: fewer than one class, or a size that is not two positive integers.
    """

    backbone: nn.Module
    normalization: Normalization
    num_classes: int
    image_size: tuple[int, int]
    stride: int
    superpixel_grid: tuple[int, int] | None = None
    class_weights: Tensor | None
    weighs_classes = False

    def __init__(self, num_classes: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        check_num_classes(num_classes)
        check_image_size(image_size)
        self.num_classes = num_classes
        self.image_size = (image_size[0], image_size[1])
        self.register_buffer("class_weights", None, persistent=False)

    @abstractmethod
    def forward(self, image: Tensor) -> Prediction:
        """Segment a normalised float batch (B, 3, H, W); its first step is `pad_to_stride`, which refuses anything else."""

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """The paper's loss terms, already weighted, by name; their sum is minimised.

        Args:
            prediction: of this model, in training mode.
            labels: int64 (B, H, W) in [0, K) or IGNORE, of the image's size.

        Raises:
            ValueError: labels of another size or type, or of a class that the model does not have.
        """
        check_labels(prediction.logits, labels)
        return self.loss_terms(prediction, labels)

    @abstractmethod
    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """What `loss` returns, for labels that it has checked."""

    def log_scores(self, logits: Tensor) -> Tensor:
        """Scores (B, K, H, W) of a prediction as those whose softmax over the classes are the class probabilities."""
        return logits

    def deployed(self) -> SegmentationModel:
        """The same function for inference alone, at `image_size`, in the form that runs quickest; itself where there is none.

        Its results differ from this model's by rounding only. It shares or copies weights as they are now.
        """
        return self

    def decide(self, image: Tensor) -> Decision:
        """Labels, confidence and superpixels of a normalised float batch (B, 3, H, W); the deployment model's inside."""
        prediction = self(image)
        labels, confidence = most_probable(prediction.logits, dim=1)
        return Decision(labels, confidence, prediction.superpixels)


class AssociationModel(SegmentationModel):
    """A model whose last step is III-D: each pixel mixes the classes of the 3x3 superpixels around it.

    Attributes:
        superpixel_grid: (rows, cols) at `image_size`.
        cell: (h, w) of a superpixel's cell in image pixels.
        feature_cell: (h, w) of a superpixel's cell in pixel features, P of them.
    """

    superpixel_grid: nb.Grid
    cell: nb.Cell
    feature_cell: nb.Cell

    @abstractmethod
    def associate_features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What painting outside of the model starts from.

        Args:
            image: float (B, 3, H, W), normalised.

        Returns:
            association logits at the stride of the pixel features (B, R, C, P, 9), BORDER outside the grid, and class
            scores of the superpixels (B, R, C, K).
        """

    def associate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """`associate_features` at the image's resolution: P is the product of `cell` (IV-A: upsampled before the softmax)."""
        logits, class_logits = self.associate_features(image)
        return nb.upsample_in_cells(logits, self.feature_cell, self.cell), class_logits

    def forward(self, image: Tensor) -> Prediction:
        """Segment a batch.

        Args:
            image: float (B, 3, H, W), normalised. Sides that are no multiple of the stride are zero-padded at the
                bottom and right, and the padding is cut off the outputs.

        Returns:
            Prediction with logits (B, K, H, W) and, in eval mode, superpixels (B, H, W) in [0, rows * cols) of the
            (padded) image's grid.
        """
        association_logits, class_logits = self.associate(image)
        height, width_px = image.shape[-2:]
        scores = nb.paint(nb.association(association_logits), class_logits, self.cell)  # (B, K, H, W)
        owner = None if self.training else nb.hard_superpixels(association_logits, self.cell)[:, :height, :width_px]
        return Prediction(scores[..., :height, :width_px], owner)

    def decide(self, image: Tensor) -> Decision:
        """As the base class. Decides cell by cell, so that K scores a pixel are never rearranged into an image."""
        association_logits, class_logits = self.associate(image)
        height, width_px = image.shape[-2:]
        scores = nb.association(association_logits) @ nb.gather_neighbours(class_logits)  # (B, R, C, P, K)
        labels, confidence = most_probable(scores, dim=-1)  # (B, R, C, P)
        owner = nb.hard_superpixels(association_logits, self.cell)  # (B, H, W)
        labels = nb.from_cells(labels.unsqueeze(-1), self.cell)[:, 0]
        confidence = nb.from_cells(confidence.unsqueeze(-1), self.cell)[:, 0]
        return Decision(*(x[:, :height, :width_px] for x in (labels, confidence, owner)))


def check_num_classes(num_classes: int) -> None:
    """Raise ValueError for fewer than one class."""
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; expected at least 1")


def check_image_size(image_size: tuple[int, int]) -> None:
    """Raise ValueError for anything but two positive integers, (H, W)."""
    sides = list(image_size) if isinstance(image_size, list | tuple) else []
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(f"image_size is {image_size!r}; expected (H, W), two positive integers")


def check_image(image: Tensor) -> None:
    """Raise ValueError for anything but a float batch (B, 3, H, W). It asks for shapes alone, so that a model exports."""
    if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] == 0 or image.shape[3] == 0:
        raise ValueError(f"image of shape {tuple(image.shape)}; expected (B, 3, H, W)")
    if not image.is_floating_point():
        raise ValueError(f"image of {image.dtype}; expected normalised floats, see the model's `normalization`")


def pad_to_stride(image: Tensor, stride: int) -> Tensor:
    """Zero-pad an image (B, 3, H, W) at the bottom and right to multiples of the stride.

    Raises:
        ValueError: see `check_image`.
    """
    check_image(image)
    return F.pad(image, (0, -image.shape[-1] % stride, 0, -image.shape[-2] % stride))


def resize_bilinear(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear resize of (B, C, h, w) to (B, C, *size); the maps themselves if they have that size."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def upsample_and_crop(scores: Tensor, padded: Tensor, image: Tensor) -> Tensor:
    """Bilinear resize of scores (B, K, h, w) to the padded image, then cut to the image: (B, K, H, W)."""
    full = F.interpolate(scores, size=padded.shape[-2:], mode="bilinear", align_corners=False)
    return full[..., : image.shape[-2], : image.shape[-1]]
