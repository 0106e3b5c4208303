"""Segmentation metrics from one confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seg_models.losses import IGNORE


@dataclass(frozen=True)
class Scores:
    """Figures of an evaluation.

    Attributes:
        miou: mean IoU over the classes that occur in the labels, in 0..1; nan without labels.
        pixel_accuracy: share of labelled pixels that are right, in 0..1; nan without labels.
        iou: IoU of each class, None for a class that does not occur in the labels.
    """

    miou: float
    pixel_accuracy: float
    iou: list[float | None]


class ConfusionMatrix:
    """Counts of (label, prediction) pairs over any number of images; int64, so nothing is lost to rounding."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)  # rows: label, columns: prediction

    def add(self, prediction: Tensor, labels: Tensor) -> None:
        """Count integer (…) predictions in [0, K) against labels of the same shape; IGNORE labels do not count.

        Raises:
            ValueError: shapes differ, or a label is neither a class nor IGNORE.
        """
        if prediction.shape != labels.shape:
            raise ValueError(
                f"prediction is {tuple(prediction.shape)}, labels are {tuple(labels.shape)}; same shape expected"
            )
        known = labels != IGNORE
        label, predicted = labels[known].long(), prediction[known].long()
        if label.numel() and int(label.max()) >= self.num_classes:
            raise ValueError(f"label {int(label.max())} found; expected 0..{self.num_classes - 1} or {IGNORE}")
        pairs = label * self.num_classes + predicted
        self.counts += torch.bincount(pairs.cpu(), minlength=self.num_classes**2).reshape(self.counts.shape)

    def scores(self) -> Scores:
        """mIoU, pixel accuracy and IoU by class of everything counted so far."""
        counts = self.counts.double()
        hit, label, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
        present = label > 0
        iou = hit / (label + predicted - hit)
        return Scores(
            miou=float(iou[present].mean()),
            pixel_accuracy=float(hit.sum() / counts.sum()),
            iou=[float(v) if p else None for v, p in zip(iou, present, strict=True)],
        )
