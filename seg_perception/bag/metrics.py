"""The figures that a segmentation is judged by: confusion matrix, IoU, pixel accuracy, latency percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seg_perception.model.model_file import UNLABELLED

LATENCY_PERCENTILES = (50, 95, 99)


class LabelIdError(ValueError):
    """Labels or predictions hold ids that are no class. `ids` are those, `of_labels` says whose they are."""

    def __init__(self, ids: Sequence[int], num_classes: int, of_labels: bool) -> None:
        self.ids = list(ids)
        self.of_labels = of_labels
        whose = "labels hold" if of_labels else "predictions hold"
        shown = ", ".join(str(number) for number in self.ids)
        super().__init__(
            f"{whose} the ids {shown}; expected 0 to {num_classes - 1}, or {UNLABELLED} for pixels without a label"
        )


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix comes to.

    Attributes:
        iou: float64 [K], TP / (TP + FP + FN) of every class; NaN where the labels do not have the class.
        miou: mean of `iou` over the classes that the labels have; NaN where no pixel is labelled.
        pixel_accuracy: correct pixels among the labelled ones; NaN where there are none.
    """

    iou: np.ndarray
    miou: float
    pixel_accuracy: float


class ConfusionMatrix:
    """Counts pixels by true and predicted class.

    Attributes:
        counts: int64 [K, K + 1], rows true classes, columns predicted ones; the last column is for pixels that the
            prediction leaves without a label (255). Pixels without a true label are not counted.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)

    def add(self, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Count one frame.

        Args:
            labels: uint8 [H, W], true classes, 255 = not labelled.
            predicted: uint8 [H, W].

        Returns:
            int64 [K, K + 1], the counts of this frame alone.

        Raises:
            LabelIdError: an id is no class; nothing is counted then.
            ValueError: the two are of different sizes.
        """
        if labels.shape != predicted.shape:
            raise ValueError(
                f"labels are {labels.shape[1]}x{labels.shape[0]} pixels, the prediction is "
                f"{predicted.shape[1]}x{predicted.shape[0]}"
            )
        pairs = (labels.astype(np.uint16) << 8) | predicted  # (H, W), true id in the high byte
        counts = np.bincount(pairs.reshape(-1), minlength=1 << 16).reshape(256, 256)
        beyond = slice(self.num_classes, UNLABELLED)
        for axis, of_labels in ((1, True), (0, False)):
            strangers = np.flatnonzero(counts.sum(axis=axis)[beyond]) + self.num_classes
            if strangers.size:
                raise LabelIdError(strangers.tolist(), self.num_classes, of_labels)
        columns = [*range(self.num_classes), UNLABELLED]
        frame = counts[: self.num_classes, columns].astype(np.int64)
        self.counts += frame
        return frame

    def scores(self) -> Scores:
        """IoU and accuracy of all frames so far."""
        return scores(self.counts)


@dataclass(frozen=True)
class SparseCounts:
    """One frame's confusion counts without their zeros, a few hundred bytes.

    Attributes:
        cells: uint16 [N], places in the flattened [K, K + 1] counts.
        pixels: uint32 [N], the counts there.
    """

    cells: np.ndarray
    pixels: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray) -> SparseCounts:
        """From int64 [K, K + 1], K at most 255."""
        cells = np.flatnonzero(counts)
        return cls(cells.astype(np.uint16), counts.ravel()[cells].astype(np.uint32))


def scores(counts: np.ndarray) -> Scores:
    """IoU and accuracy of confusion counts, int64 [K, K + 1] as in `ConfusionMatrix`."""
    num_classes = counts.shape[0]
    true_positives = np.diagonal(counts)  # (K,)
    labelled = counts.sum(axis=1)  # (K,)
    predicted = counts[:, :num_classes].sum(axis=0)  # (K,)
    union = labelled + predicted - true_positives
    present = labelled > 0
    iou = np.full(num_classes, np.nan)
    iou[present] = true_positives[present] / union[present]
    total = int(labelled.sum())
    return Scores(
        iou=iou,
        miou=float(iou[present].mean()) if present.any() else float("nan"),
        pixel_accuracy=float(true_positives.sum() / total) if total else float("nan"),
    )


def percentiles(values_ms: Sequence[float] | np.ndarray) -> dict[str, float | None]:
    """p50, p95 and p99 of latencies, linearly interpolated; None for each where there are no values."""
    values = np.asarray(values_ms, np.float64)
    if values.size == 0:
        return {f"p{percentile}": None for percentile in LATENCY_PERCENTILES}
    numbers = np.percentile(values, LATENCY_PERCENTILES)
    return {f"p{key}": float(number) for key, number in zip(LATENCY_PERCENTILES, numbers, strict=True)}
