"""Learning-rate schedules of the papers, as plain functions of the step (counted from 0, the first update)."""

from __future__ import annotations

import math
from collections.abc import Sequence


def polynomial(step: int, steps: int, lr: float, power: float, min_lr: float = 0.0) -> float:
    """lr falling to min_lr: (lr - min_lr) (1 - step / steps)^power + min_lr.

    Segmenter: power 0.9, min_lr 1e-5. RegProxy Ti, S and R26+S: power 1, min_lr 0. SegViT: power 1, min_lr 0. Behind
    `steps` it stays at min_lr.
    """
    return (lr - min_lr) * max(0.0, 1 - step / steps) ** power + min_lr


def cosine_restarts(step: int, lr: float, periods: Sequence[int], weights: Sequence[float]) -> float:
    """A half cosine from weight * lr to 0 in each period, one after the other.

    RegProxy B, L and R50+L on ADE20K: periods 20 000, 40 000 and 100 000 with weights 1, 0.5 and 0.25; half the periods on
    Cityscapes. Behind the last period it stays at 0.

    Raises:
        ValueError: not as many weights as periods.
    """
    if len(periods) != len(weights):
        raise ValueError(f"{len(weights)} weights for {len(periods)} periods; expected one a period")
    for period, weight in zip(periods, weights, strict=True):
        if step < period:
            return 0.5 * weight * lr * (math.cos(math.pi * step / period) + 1)
        step -= period
    return 0.0


def ramp(step: int, warmup_steps: int) -> float:
    """Share of the full rate on the way to it, for a warm-up that the schedule follows (Superpixel Transformer): the first
    step has a share of 1 / (warmup_steps + 1), and step `warmup_steps` all of it."""
    return min(1.0, (step + 1) / (warmup_steps + 1))


def warm_up(step: int, warmup_steps: int, lr: float, start_ratio: float = 1e-6) -> float:
    """A schedule's value `lr` at `step`, with the linear warm-up of the papers on mmsegmentation over it.

    RegProxy, SegViT and RSSeg: 1500 steps from 1e-6 of the value. Segmenter: none.
    """
    if step >= warmup_steps:
        return lr
    return lr * (1 - (1 - step / warmup_steps) * (1 - start_ratio))
