"""Many recordings as one: counts added up, recordings and moments ranked. Kept small: ten thousand fit into some MB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seg_perception.bag.metrics import scores
from seg_perception.fleet.bag_scores import MOMENTS, BagScores, Moment


@dataclass(frozen=True)
class BagRow:
    """What is kept of a recording's scores; `miou` is over the classes in its labels, None where no pixel is labelled."""

    bag: str
    miou: float | None
    frames: int
    frames_dropped: int
    wall_s: float
    warnings: list[str]


class Tally:
    """The scores of one model, recording by recording, in any order: the result is the same to the last digit.

    Attributes:
        confusion: int64 [K, K + 1], the exact sum of all recordings'; None where none has labels.
        rows: one a recording, as they came.
        moments: the MOMENTS worst of all, lowest mIoU first.
        class_counts: by recording with labelled pixels, see `class_counts`.
        frames_labelled: in all.
    """

    def __init__(self) -> None:
        self.confusion: np.ndarray | None = None
        self.rows: list[BagRow] = []
        self.moments: list[Moment] = []
        self.class_counts: dict[str, np.ndarray] = {}
        self.frames_labelled = 0

    def add(self, bag: BagScores) -> None:
        """Count a recording in.

        Raises:
            ValueError: its counts are of another number of classes.
        """
        miou = None
        if bag.confusion is not None:
            if self.confusion is None:
                self.confusion = np.zeros_like(bag.confusion)
            self.confusion += bag.confusion
            if bag.confusion.any():
                miou = scores(bag.confusion).miou
                self.class_counts[bag.bag] = class_counts(bag.confusion)
        self.rows.append(BagRow(bag.bag, miou, bag.frames, bag.frames_dropped, bag.wall_s, bag.warnings))
        self.frames_labelled += bag.frames_labelled
        moments = [*self.moments, *bag.moments]
        self.moments = sorted(moments, key=lambda moment: (moment.miou, moment.bag, moment.first))[:MOMENTS]

    def ranked(self) -> list[BagRow]:
        """Lowest mIoU first, those without labels last, equal ones by path."""
        return sorted(self.rows, key=lambda row: (row.miou is None, row.miou or 0.0, row.bag))


def class_counts(confusion: np.ndarray) -> np.ndarray:
    """True positives, labelled and predicted pixels of each class, int64 [3, K], from counts [K, K + 1]: all an IoU needs."""
    return np.stack([np.diagonal(confusion), confusion.sum(axis=1), confusion[:, :-1].sum(axis=0)])
