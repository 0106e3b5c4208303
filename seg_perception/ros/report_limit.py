"""Error lines that do not flood the log."""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic

REPORT_INTERVAL_S = 10.0  # the same error is logged at most this often
MOST_KINDS = 100  # messages that differ each time must not fill the memory
_NUMBERS = re.compile(r"\b[0-9a-f]{2}( [0-9a-f]{2})+\b|\d+")


class ReportLimit:
    """Writes an error, of one kind at most every REPORT_INTERVAL_S with the number left out in between.

    Two errors are of one kind where they differ in numbers alone: sizes and bytes differ from image to image.

    Args:
        write: logs a line.
        now: a clock in seconds that never goes back.
    """

    def __init__(self, write: Callable[[str], object], now: Callable[[], float] = monotonic) -> None:
        self._write = write
        self._now = now
        self._reported: dict[str, tuple[float, int]] = {}

    def report(self, error: str) -> None:
        """Log it, if its turn has come."""
        now = self._now()
        kind = _NUMBERS.sub("#", error)
        last, left_out = self._reported.get(kind, (-float("inf"), 0))
        if now - last < REPORT_INTERVAL_S:
            self._reported[kind] = (last, left_out + 1)
            return
        if len(self._reported) > MOST_KINDS:
            self._reported.clear()
        self._reported[kind] = (now, 0)
        self._write(f"{error} ({left_out} more like it)" if left_out else error)
