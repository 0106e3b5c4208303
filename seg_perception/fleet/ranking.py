"""Which recordings and which moments went worst."""

from __future__ import annotations

from collections.abc import Sequence

from seg_perception.bag.metrics import scores
from seg_perception.fleet.bag_scores import MOMENTS, BagScores, Moment


def bag_miou(bag: BagScores) -> float | None:
    """mIoU over the classes in the recording's labels; None where no pixel is labelled."""
    if bag.confusion is None or not bag.confusion.any():
        return None
    return scores(bag.confusion).miou


def ranked_bags(bags: Sequence[BagScores]) -> list[BagScores]:
    """Lowest mIoU first, those without labels last, equal ones by path."""

    def key(bag: BagScores) -> tuple[bool, float, str]:
        miou = bag_miou(bag)
        return (miou is None, 0.0 if miou is None else miou, bag.bag)

    return sorted(bags, key=key)


def ranked_moments(bags: Sequence[BagScores]) -> list[Moment]:
    """The worst moments of all recordings, lowest mIoU first."""
    moments = [moment for bag in bags for moment in bag.moments]
    return sorted(moments, key=lambda moment: (moment.miou, moment.bag, moment.first))[:MOMENTS]
