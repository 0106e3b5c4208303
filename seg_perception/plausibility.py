"""Whether a camera's masks still look as they usually do: a covered lens, a picture out of focus, a model out of its world.

Of a frame a second, a grid of pixels tells three numbers: the share that is unlabelled, the mean confidence, and the
contrast of the image. The first two are held against their own past, since what is usual differs from model to model and
place to place; the contrast needs none. No ROS in here.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

import numpy as np

from seg_perception.model.model_file import UNLABELLED

SAMPLE_EVERY_S = 1.0
GRID = 32  # samples a side at most: a thousand pixels tell a mean to some percent, and cost 0.05 ms
LEARN = 120  # samples before anything is said: two minutes
FORGET = 600  # samples after which the past has faded: ten minutes, so that an evening is no alarm
RECENT = 5  # samples that are judged together: one strange frame is none
DEVIATIONS = 4.0
# Less is no alarm however steady it was before. On the demo recording (shipped model) mean confidence is 0.78 +- 0.05, blurred
# 0.53, overexposed 0.38, upside down 0.46; of half a picture 0.68. With the lens covered it is anything: 0.56, 0.91.
LEAST_CHANGE = 0.2
# Standard deviation in grey levels of 255: rooms have 30 to 50, black with a sensor's noise 0 to 4.
LEAST_CONTRAST = 5.0


class UsualRange:
    """Mean and deviation that fade exponentially, and whether the newest values lie outside what they make usual.

    The first values all count the same; later ones with a weight of 1 / FORGET. What lies outside is not learnt, or a lens
    that stays covered would become usual.

    Args:
        outside: from (value, mean, allowed change) to whether the value is out of its usual range.
    """

    def __init__(self, outside: Callable[[float, float, float], bool]) -> None:
        self._outside = outside
        self._count = 0
        self._mean = self._variance = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)

    def add(self, value: float) -> None:
        """One more value, each a frame's."""
        self._recent.append(value)
        usual = self.usual
        if usual is not None and self._outside(value, *usual):
            return
        self._count += 1
        weight = 1.0 / min(self._count, FORGET)
        change = value - self._mean
        self._mean += weight * change
        self._variance = (1 - weight) * (self._variance + weight * change * change)

    @property
    def recent(self) -> float:
        """Mean of the last RECENT values; NaN before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else math.nan

    @property
    def usual(self) -> tuple[float, float] | None:
        """Mean and the change from it that is allowed; None while it is learnt."""
        if self._count < LEARN:
            return None
        return self._mean, max(DEVIATIONS * math.sqrt(self._variance), LEAST_CHANGE)

    @property
    def is_outside(self) -> bool:
        """Whether the recent values are out of the usual range; False while it is learnt."""
        usual = self.usual
        return usual is not None and self._outside(self.recent, *usual)


class Plausibility:
    """Judges one camera's frames. One thread adds, any other may ask.

    Args:
        now: seconds that never go back.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Learn anew: another model, other classes."""
        with self._lock:
            self._next_s = self._now()
            self._unlabelled = UsualRange(lambda value, mean, change: value > mean + change)
            self._confidence = UsualRange(lambda value, mean, change: value < mean - change)
            self._contrasts: deque[float] = deque(maxlen=RECENT)

    @property
    def due(self) -> bool:
        """Whether the next frame should be added: one in SAMPLE_EVERY_S."""
        return self._now() >= self._next_s

    def add(self, rgb: np.ndarray, labels: np.ndarray, confidence: np.ndarray | None) -> None:
        """One frame.

        Args:
            rgb: uint8 [H, W, 3].
            labels: uint8 [h, w], 255 = unlabelled.
            confidence: uint8 [h, w], probability x 255; None where there is none.
        """
        unlabelled = float(np.mean(_sampled(labels) == UNLABELLED))
        mean_confidence = None if confidence is None else float(np.mean(_sampled(confidence))) / 255
        contrast = float(np.std(np.mean(_sampled(rgb), axis=2)))
        with self._lock:
            self._next_s = self._now() + SAMPLE_EVERY_S
            self._unlabelled.add(unlabelled)
            if mean_confidence is not None:
                self._confidence.add(mean_confidence)
            self._contrasts.append(contrast)

    def values(self) -> dict[str, str]:
        """For diagnostics: newest values, and what is usual once that is learnt."""
        with self._lock:
            values = {}
            for name, measured in (("unlabelled_share", self._unlabelled), ("mean_confidence", self._confidence)):
                if math.isnan(measured.recent):
                    continue
                values[name] = f"{measured.recent:.3f}"
                if measured.usual is not None:
                    values[f"{name}_usual"] = "{:.3f} +- {:.3f}".format(*measured.usual)
            if self._contrasts:
                values["image_contrast"] = f"{self._contrasts[-1]:.1f}"
            return values

    @property
    def problem(self) -> str:
        """What is out of its usual range, in one line; empty where nothing is."""
        with self._lock:
            contrast = max(self._contrasts, default=math.inf)
            if contrast < LEAST_CONTRAST:
                return f"the image is nearly of one grey (contrast {contrast:.1f} of 255): is the lens covered, or is it dark?"
            usual = self._confidence.usual
            if usual is not None and self._confidence.is_outside:
                return (
                    f"mean confidence is {self._confidence.recent:.2f}, usually {usual[0]:.2f}: is the lens covered, dirty "
                    "or out of focus, the exposure wrong, or the place new to the model?"
                )
            usual = self._unlabelled.usual
            if usual is not None and self._unlabelled.is_outside:
                return (
                    f"{self._unlabelled.recent:.0%} of the pixels are unlabelled, usually {usual[0]:.0%}: "
                    "is the lens covered or dirty, or the place new to the model?"
                )
            return ""


def _sampled(picture: np.ndarray) -> np.ndarray:
    """A grid of at most about GRID x GRID pixels of it, the middle one of each cell: a view."""
    down, across = (max(picture.shape[axis] // GRID, 1) for axis in (0, 1))
    return picture[down // 2 :: down, across // 2 :: across]
