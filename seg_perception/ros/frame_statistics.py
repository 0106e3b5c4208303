"""Counts and latencies of a stream of frames, for diagnostics. Thread-safe; needs no ROS."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from time import monotonic

import numpy as np

PERCENTILES = (50, 95, 99)
WINDOW = 256  # frames that percentiles and rates look back on


class Drop(Enum):
    """Why a frame that is good was let go."""

    OVERTAKEN = "overtaken"  # by a newer one of the same camera
    RATE = "rate"  # more came than the rate limit lets through
    DISABLED = "disabled"  # it waited when its camera was disabled
    SET_ASIDE = "set aside"  # an image of its camera hangs in decoding
    UNWANTED = "unwanted"  # nobody subscribes to any output


@dataclass(frozen=True)
class Summary:
    """What happened so far.

    Attributes:
        received, published, failed: frames since activation: from the camera; segmented and published; unusable.
        drops: frames since activation that were let go, by the reason.
        input_rate_hz, output_rate_hz: over the last frames, 0 while there are fewer than two.
        latency_ms: p50, p95, p99 from arrival to publication; empty before the first mask.
        stages_ms: p50, p95, p99 of each stage's milliseconds.
        ages_ms: p50, p95, p99 of the time from the camera's stamp to publication; empty before the first mask.
        silence_s: since the last image arrived, or since activation before the first one.
        last_error: newest error, empty if there was none.
        errors_recently: failures since the previous summary.
    """

    received: int
    published: int
    failed: int
    drops: dict[Drop, int]
    input_rate_hz: float
    output_rate_hz: float
    latency_ms: dict[str, float]
    stages_ms: dict[str, dict[str, float]]
    ages_ms: dict[str, float]
    silence_s: float
    last_error: str
    errors_recently: int


class FrameStatistics:
    """Collects from the camera callback and the worker.

    Args:
        now: a clock in seconds that never goes back.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._started_s = now()
        self._received = self._published = self._failed = 0
        self._drops = dict.fromkeys(Drop, 0)
        self._arrivals: deque[float] = deque(maxlen=WINDOW)
        self._publications: deque[float] = deque(maxlen=WINDOW)
        self._latencies_ms: deque[float] = deque(maxlen=WINDOW)
        self._ages_ms: deque[float] = deque(maxlen=WINDOW)
        self._stages_ms: deque[dict[str, float]] = deque(maxlen=WINDOW)
        self._last_error = ""
        self._failed_before = 0

    def arrived(self) -> None:
        """An image came."""
        with self._lock:
            self._received += 1
            self._arrivals.append(self._now())

    def dropped(self, reason: Drop) -> None:
        """An image was let go."""
        with self._lock:
            self._drops[reason] += 1

    def resumed(self) -> None:
        """The camera was enabled again: the time that it was disabled is no silence, and no part of a rate."""
        with self._lock:
            self._started_s = self._now()
            self._arrivals.clear()
            self._publications.clear()

    def published(self, latency_ms: float, age_ms: float, stages_ms: dict[str, float]) -> None:
        """A mask went out."""
        with self._lock:
            self._published += 1
            self._publications.append(self._now())
            self._latencies_ms.append(latency_ms)
            self._ages_ms.append(age_ms)
            self._stages_ms.append(stages_ms)

    def failed(self, error: str) -> None:
        """An image could not be used."""
        with self._lock:
            self._failed += 1
            self._last_error = error

    def summary(self) -> Summary:
        """Everything so far; the count of recent errors starts anew."""
        with self._lock:
            now = self._now()
            recently = self._failed - self._failed_before
            self._failed_before = self._failed
            stages: dict[str, list[float]] = {name: [] for name in (self._stages_ms[-1] if self._stages_ms else {})}
            for frame in self._stages_ms:
                for name, value in frame.items():
                    stages.setdefault(name, []).append(value)
            return Summary(
                received=self._received,
                published=self._published,
                failed=self._failed,
                drops=dict(self._drops),
                input_rate_hz=_rate_hz(self._arrivals, now),
                output_rate_hz=_rate_hz(self._publications, now),
                latency_ms=_percentiles(self._latencies_ms),
                stages_ms={name: _percentiles(values) for name, values in stages.items()},
                ages_ms=_percentiles(self._ages_ms),
                silence_s=now - (self._arrivals[-1] if self._arrivals else self._started_s),
                last_error=self._last_error,
                errors_recently=recently,
            )


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99; empty without values."""
    if not values:
        return {}
    found = np.percentile(np.array(values), PERCENTILES)
    return {f"p{p}": float(v) for p, v in zip(PERCENTILES, found, strict=True)}


def _rate_hz(times_s: deque[float], now_s: float) -> float:
    """Events a second, the silence since the last one counted in, so that a dead stream's rate falls."""
    if len(times_s) < 2:
        return 0.0
    interval_s = (times_s[-1] - times_s[0]) / (len(times_s) - 1)
    return 1.0 / max(interval_s, now_s - times_s[-1], 1e-9)
