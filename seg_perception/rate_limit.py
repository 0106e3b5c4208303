"""Fewer images than come, evenly."""

from __future__ import annotations

EARLY = 0.1  # of the interval: cameras jitter, and one that is on time by that must not cost a whole image


class RateLimit:
    """Lets at most so many images a second through, by the times they arrive. One thread at a time may use it.

    Images that pass keep a fixed schedule rather than a distance from the one before: of 30 images a second 20 pass where 20
    are allowed, not every second one. After a pause, or where the rate was changed, the schedule begins anew.
    """

    def __init__(self) -> None:
        self._due_s = -float("inf")
        self._rate_hz = 0.0

    def admits(self, arrival_s: float, rate_hz: float) -> bool:
        """Whether an image may pass.

        Args:
            arrival_s: of the image, by a clock that never goes back.
            rate_hz: at most so many a second; 0: no limit.
        """
        if rate_hz != self._rate_hz:
            self._rate_hz, self._due_s = rate_hz, -float("inf")
        if rate_hz == 0:
            return True
        interval_s = 1.0 / rate_hz
        if arrival_s < self._due_s - EARLY * interval_s:
            return False
        late = arrival_s - self._due_s > interval_s
        self._due_s = (arrival_s if late else self._due_s) + interval_s
        return True
