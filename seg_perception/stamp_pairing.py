"""Pairs what two sensors took at about the same time, by their stamps. No ROS in here."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

First = TypeVar("First")
Second = TypeVar("Second")

KEPT = 8  # of each kind that wait for a partner
AT_ONCE = 0.1  # of the gap: so near there is nothing to wait for


class StampPairing(Generic[First, Second]):
    """The newest of the first kind, with that of the second kind whose stamp is nearest. One thread at a time may use it.

    A pair is made once it is settled that no nearer one will come: something of the second kind is as new as the first, or
    the two are nearly the same. What is older than a pair is let go, since masks in arrears help no robot; each one is used
    once. Stamps that go back (a recording that begins anew) let everything go.
    """

    def __init__(self) -> None:
        self._firsts: deque[tuple[int, First]] = deque(maxlen=KEPT)
        self._seconds: deque[tuple[int, Second]] = deque(maxlen=KEPT)

    def add_first(self, stamp_ns: int, item: First) -> None:
        """Of the kind whose newest is wanted."""
        if self._firsts and stamp_ns < self._firsts[-1][0]:
            self._firsts.clear()
        self._firsts.append((stamp_ns, item))

    def add_second(self, stamp_ns: int, item: Second) -> None:
        """Of the kind that is looked for."""
        if self._seconds and stamp_ns < self._seconds[-1][0]:
            self._seconds.clear()
        self._seconds.append((stamp_ns, item))

    def take(self, max_gap_s: float) -> tuple[First, Second] | None:
        """A pair no further apart than the gap; None where there is none, or where a better one may still come."""
        gap_ns = 1e9 * max_gap_s
        for stamp_ns, first in reversed(self._firsts):
            if not self._seconds:
                return None
            other_ns, second = min(self._seconds, key=lambda entry: abs(entry[0] - stamp_ns))
            apart_ns = abs(other_ns - stamp_ns)
            if apart_ns > gap_ns or (self._seconds[-1][0] < stamp_ns and apart_ns > AT_ONCE * gap_ns):
                continue
            self._firsts = deque((entry for entry in self._firsts if entry[0] > stamp_ns), KEPT)
            self._seconds = deque((entry for entry in self._seconds if entry[0] > other_ns), KEPT)
            return first, second
        return None
