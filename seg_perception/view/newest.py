"""Hand-over of the newest picture of a live source: one that a newer one overtakes is dropped and counted."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """Room for one item between the thread that a source calls back on and the one that shows.

    Attributes:
        dropped: items that were overtaken.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._items: list[T] = []  # none or one
        self._closed = False
        self.dropped = 0

    def put(self, item: T) -> None:
        """Leave an item in place of the one before; a closed place takes none."""
        with self._condition:
            if not self._closed:
                self.dropped += len(self._items)
                self._items = [item]
                self._condition.notify()

    def take(self, timeout_s: float) -> T | None:
        """The item, as soon as there is one; None where there is none in time or it was closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._closed, timeout_s)
            return self._items.pop() if self._items and not self._closed else None

    def close(self) -> None:
        """Wake the taker for good."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed
