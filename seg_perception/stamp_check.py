"""What is wrong with the stamps of a stream of images. They are passed on as they are; this only counts. No ROS in here."""

from __future__ import annotations

import threading
from dataclasses import dataclass

FUTURE_NS = 100_000_000  # ahead of the clock: two machines whose clocks are kept by NTP or PTP differ by less


@dataclass(frozen=True)
class StampProblems:
    """Images with such stamps.

    Attributes:
        zero: no time at all: the driver does not fill it in.
        future: more than 0.1 s ahead of the node's clock.
        backwards: older than the image before.
        ahead_s: of the newest one from the future.
    """

    zero: int = 0
    future: int = 0
    backwards: int = 0
    ahead_s: float = 0.0

    def since(self, before: StampProblems) -> StampProblems:
        """What has come since an earlier state."""
        return StampProblems(
            self.zero - before.zero, self.future - before.future, self.backwards - before.backwards, self.ahead_s
        )

    @property
    def line(self) -> str:
        """What to say of them; empty where there are none."""
        if self.zero:
            return f"{self.zero} images with stamp 0: the driver fills in no time, so nothing can be matched with them"
        if self.future:
            return (
                f"{self.future} images stamped {self.ahead_s:.1f} s ahead of the node's clock: keep both clocks together "
                "(NTP, PTP), and set use_sim_time alike everywhere"
            )
        if self.backwards:
            return (
                f"{self.backwards} images older than the one before: a recording that began anew, a clock that was set"
            )
        return ""


class StampCheck:
    """Counts the problems of one camera's stamps. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ns: int | None = None
        self._problems = StampProblems()

    def add(self, stamp_ns: int, now_ns: int) -> None:
        """An image came.

        Args:
            stamp_ns: of its header.
            now_ns: the node's clock; 0: it has no time yet (use_sim_time before the first /clock).
        """
        with self._lock:
            known = self._problems
            zero, future, backwards, ahead_s = known.zero, known.future, known.backwards, known.ahead_s
            if stamp_ns == 0:
                zero += 1
            else:
                if now_ns and stamp_ns - now_ns > FUTURE_NS:
                    future += 1
                    ahead_s = (stamp_ns - now_ns) / 1e9
                backwards += self._last_ns is not None and stamp_ns < self._last_ns
                self._last_ns = stamp_ns
            self._problems = StampProblems(zero, future, backwards, ahead_s)

    @property
    def problems(self) -> StampProblems:
        """Since the beginning."""
        return self._problems
