"""IoU of each class and its means, over all classes and over chosen ones, and which images went worst."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from typing_extensions import Self

from seg_models.evaluation.measures import UNLABELLED, Measure, Sample, joined, mean_of, shown
from seg_models.training.metrics import Scores

# The small classes of RSSeg, by the names of `config/labels/`. Those of ADE20K are "the seven smallest objects according to
# their average sizes"; those of Cityscapes are "small or thin".
SMALL_CLASSES: dict[str, tuple[str, ...]] = {
    "small classes (RSSeg, Table 1)": (
        *("pole", "traffic light", "traffic sign", "person", "rider", "motorcycle", "bicycle"),
    ),
    "small classes (RSSeg, Table 2)": (
        *("vase", "clock", "shower", "light, light source", "streetlight, street lamp", "sconce"),
        "ashcan, trash can, garbage can, wastebin, ash bin, ash-bin, ashbin, dustbin, trash barrel, trash bin",
    ),
}


class GroupError(ValueError):
    """A group of classes that the data set does not have."""


def class_groups(names: Sequence[str], asked: Sequence[Sequence[str]] = ()) -> dict[str, list[int]]:
    """Groups of classes whose mean IoU is told apart.

    Args:
        names: of the classes.
        asked: each a group's name and the names of its classes.

    Returns:
        class numbers by group: those of SMALL_CLASSES that the data set has, then what was asked for.

    Raises:
        GroupError: no such class, or a group of none.
    """
    groups: dict[str, tuple[str, ...]] = {
        name: members for name, members in SMALL_CLASSES.items() if set(members) <= set(names)
    }
    for name, *members in asked:
        if not members:
            raise GroupError(f"the group {name!r} has no class; expected a name and then classes of the data set")
        groups[name] = tuple(members)
    for name, chosen in groups.items():
        for member in chosen:
            if member not in names:
                raise GroupError(f"the group {name!r} has {member!r}; the data set's classes are {', '.join(names)}")
    return {name: [names.index(member) for member in chosen] for name, chosen in groups.items()}


def pair_counts(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels by true and by predicted class; unlabelled ones do not count.

    Args:
        labels: uint8 (...), in [0, K) or UNLABELLED.
        predicted: uint8, of the same shape.
        num_classes: K.

    Returns:
        int64 (K, K + 1); the last column is of pixels that the prediction leaves UNLABELLED.

    Raises:
        ValueError: a prediction that is no class.
    """
    known = labels != UNLABELLED
    columns = np.minimum(predicted[known].astype(np.int64), num_classes)
    strange = columns == num_classes
    if (predicted[known][strange] != UNLABELLED).any():
        raise ValueError(f"a prediction is {int(predicted[known][strange].min())}; expected 0 to {num_classes - 1}")
    pairs = labels[known].astype(np.int64) * (num_classes + 1) + columns
    return np.bincount(pairs, minlength=num_classes * (num_classes + 1)).reshape(num_classes, num_classes + 1)


def scores_of(counts: np.ndarray) -> Scores:
    """IoU and accuracy of counts (K, K + 1) as of `pair_counts`."""
    hit, label, predicted = np.diagonal(counts).astype(float), counts.sum(axis=1), counts[:, :-1].sum(axis=0)
    union = label + predicted - hit
    iou = [float(h / u) if n else None for h, u, n in zip(hit, union, label, strict=True)]
    mean = mean_of([value for value in iou if value is not None])
    total = int(label.sum())
    return Scores(math.nan if mean is None else mean, float(hit.sum() / total) if total else math.nan, iou)


class ClassScores(Measure):
    """One confusion matrix of all images, and of each image its mIoU.

    Args:
        names: of the K classes.
        groups: class numbers by the name of a group, see `class_groups`.

    Attributes:
        counts: int64 (K, K + 1), see `pair_counts`.
        images: mIoU of each image over the classes in its labels, by index; nan without labels.
    """

    name = "classes"

    def __init__(self, names: Sequence[str], groups: Mapping[str, Sequence[int]] | None = None) -> None:
        self.names, self.groups = tuple(names), dict(groups or {})
        self.counts = np.zeros((len(names), len(names) + 1), np.int64)
        self.images: dict[int, float] = {}

    def add(self, sample: Sample) -> None:
        counts = pair_counts(sample.labels, sample.predicted.labels, len(self.names))
        self.counts += counts
        self.images[sample.index] = scores_of(counts).miou

    def merge(self, other: Self) -> None:
        self.images = joined(self.images, other.images)
        self.counts += other.counts

    def scores(self) -> Scores:
        """Of all images so far."""
        return scores_of(self.counts)

    def group_means(self) -> dict[str, float | None]:
        """Mean IoU of each group, over its classes that occur in the labels."""
        iou = self.scores().iou
        return {
            name: mean_of([value for k in members if (value := iou[k]) is not None])
            for name, members in self.groups.items()
        }

    def worst(self, count: int) -> list[tuple[int, float]]:
        """Index and mIoU of the images with the lowest mIoU, the lowest first."""
        labelled = [(index, value) for index, value in self.images.items() if not math.isnan(value)]
        return sorted(labelled, key=lambda entry: (entry[1], entry[0]))[:count]

    def figures(self) -> dict[str, Any]:
        scores = self.scores()
        accuracy = np.diagonal(self.counts) / np.maximum(self.counts.sum(axis=1), 1)
        return {
            "miou": None if math.isnan(scores.miou) else scores.miou,
            "pixel_accuracy": None if math.isnan(scores.pixel_accuracy) else scores.pixel_accuracy,
            "iou": dict(zip(self.names, scores.iou, strict=True)),
            "class_accuracy": {
                name: None if iou is None else float(value)
                for name, iou, value in zip(self.names, scores.iou, accuracy, strict=True)
            },
            "groups": self.group_means(),
            "images": len(self.images),
        }

    def lines(self) -> list[str]:
        scores = self.scores()
        text = [
            f"{name:>12}  " + ("not in the labels" if iou is None else f"{iou:.3f}")
            for name, iou in zip(self.names, scores.iou, strict=True)
        ]
        text += [f"mIoU of {name}: {shown(value)}" for name, value in self.group_means().items()]
        return [*text, f"mIoU {scores.miou:.4f}  pixel accuracy {scores.pixel_accuracy:.4f}"]
