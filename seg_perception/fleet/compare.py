"""Two models on the same recordings: the difference, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seg_perception.bag.metrics import scores
from seg_perception.fleet.merge import merged_confusion

RESAMPLES = 2000
_CHUNK = 100  # resamples at a time, so that 10,000 recordings take 8 MB


@dataclass(frozen=True)
class Comparison:
    """The other model's mIoU less the first one's, over `bags` recordings that both scored with labels.

    Attributes:
        difference: of the pooled mIoU.
        low, high: 95 % interval over recordings; None for fewer than two.
    """

    bags: int
    miou: float
    other_miou: float
    difference: float
    low: float | None
    high: float | None


def compare(first: Sequence[np.ndarray], other: Sequence[np.ndarray], seed: int = 0) -> Comparison | None:
    """Paired bootstrap over recordings: frames of one recording are alike, so whole recordings are drawn.

    Args:
        first, other: int64 [K, K + 1] of the same recordings in the same order.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        None where there is no recording.

    Raises:
        ValueError: the two are not of the same length.
    """
    if len(first) != len(other):
        raise ValueError(f"{len(first)} recordings of one model, {len(other)} of the other; expected the same ones")
    first_sum, other_sum = merged_confusion(first), merged_confusion(other)
    if first_sum is None or other_sum is None:
        return None
    count = len(first)
    miou, other_miou = scores(first_sum).miou, scores(other_sum).miou
    low = high = None
    if count > 1:
        rng = np.random.default_rng(seed)
        first_parts, other_parts = _parts(first), _parts(other)
        drawn = []
        for _ in range(0, RESAMPLES, _CHUNK):
            times = rng.multinomial(count, np.full(count, 1 / count), size=_CHUNK).astype(np.float64)  # (R, B)
            drawn.append(_mious(times, other_parts) - _mious(times, first_parts))
        low, high = (float(number) for number in np.percentile(np.concatenate(drawn), (2.5, 97.5)))
    return Comparison(count, miou, other_miou, other_miou - miou, low, high)


def _parts(confusions: Sequence[np.ndarray]) -> np.ndarray:
    """float64 [B, 3 K]: true positives, labelled and predicted pixels of each class."""
    classes = confusions[0].shape[0]
    rows = [(np.diagonal(one), one.sum(axis=1), one[:, :classes].sum(axis=0)) for one in confusions]
    return np.array([np.concatenate(row) for row in rows], np.float64)


def _mious(times: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """mIoU of each draw [R], from how often each recording is in it [R, B]."""
    hits, labelled, predicted = np.split(times @ parts, 3, axis=1)
    union = labelled + predicted - hits
    present = labelled > 0
    iou = np.where(present, hits / np.maximum(union, 1), 0.0)
    return np.asarray(iou.sum(axis=1) / np.maximum(present.sum(axis=1), 1))
