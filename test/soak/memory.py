"""Whether a process keeps growing: samples of its memory, and the slope of a line through them with its uncertainty."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
from scipy import stats

from test.seg_perception.node_diagnostics import Figures, figures

LEFT_OUT = 0.25  # of a run, at its start: allocators and libraries take what they will keep
BLOCKS = 20
MOST_CORRELATION = 0.9  # of neighbouring blocks; a straight line leaves no more
MOST_GROWTH_MB = 10.0  # of a run, for certain; glibc's arenas alone come and go by some megabytes


@dataclass(frozen=True)
class Slope:
    """Of a straight line through what came after the start, megabytes a minute.

    Attributes:
        per_minute: least squares.
        low, high: its 95 % confidence interval.
        minutes: that it was taken over.
    """

    per_minute: float
    low: float
    high: float
    minutes: float

    @property
    def grows(self) -> bool:
        """Whether the process has grown by more than MOST_GROWTH_MB over these minutes, at 95 % confidence."""
        return self.low * self.minutes > MOST_GROWTH_MB

    def __str__(self) -> str:
        return f"{self.per_minute:+.3f} MB a minute (95 %: {self.low:+.3f} to {self.high:+.3f})"


def slope(minutes: np.ndarray, memory_mb: np.ndarray) -> Slope:
    """The line through the means of blocks of equal length.

    Neighbouring samples are nearly the same number: taken one by one, they would make any line look certain. The means of
    BLOCKS blocks depend on each other far less, and where they still do - what a fault has taken stays until another one lets it
    go - the interval is widened by sqrt((1 + r) / (1 - r)), r the correlation of neighbouring residuals, as for a first-order
    autoregression.

    Args:
        minutes, memory_mb: float [N], rising times and samples; the first LEFT_OUT of the time is left out.

    Raises:
        ValueError: fewer than two samples a block.
    """
    begin = minutes[0] + LEFT_OUT * (minutes[-1] - minutes[0])
    x, y = minutes[minutes >= begin], memory_mb[minutes >= begin]
    if len(x) < 2 * BLOCKS:
        raise ValueError(f"{len(x)} samples of memory after the start, expected {2 * BLOCKS} at least")
    x, y = (np.array([part.mean() for part in np.array_split(values, BLOCKS)]) for values in (x, y))
    line = stats.linregress(x, y)
    residuals = y - line.intercept - line.slope * x
    scale = float(residuals @ residuals)
    r = float(residuals[1:] @ residuals[:-1]) / scale if scale > 0 else 0.0
    r = min(max(r, 0.0), MOST_CORRELATION)
    margin = float(stats.t.ppf(0.975, BLOCKS - 2) * line.stderr * np.sqrt((1 + r) / (1 - r)))
    rate = float(line.slope)
    return Slope(rate, rate - margin, rate + margin, float(minutes[-1] - begin))


class MemorySampler:
    """Notes the figures of a process in a thread, until it is closed or the process is gone.

    Args:
        pid: of the process.
        period_s: between two samples.
    """

    def __init__(self, pid: int, period_s: float) -> None:
        self.at_s: list[float] = []
        self.figures: list[Figures] = []
        self._pid, self._period_s = pid, period_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No more samples."""
        self._done.set()
        self._thread.join()

    def slope(self) -> Slope:
        """See the function of that name."""
        minutes = (np.array(self.at_s) - self.at_s[0]) / 60
        return slope(minutes, np.array([sample.memory_mb for sample in self.figures]))

    def _run(self) -> None:
        while not self._done.wait(self._period_s):
            try:
                sample = figures(self._pid)
            except (FileNotFoundError, KeyError):  # it has ended; the run itself says so
                return
            self.figures.append(sample)
            self.at_s.append(time.monotonic())
