"""Hand-over of the newest frame from a camera callback to a worker thread."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds at most one item: a new one takes the place of one that nobody has taken yet.

    A robot wants the mask of the newest image, not of all images one after the other with a growing delay. One thread
    puts, one takes; neither ever waits for the other's work.

    Attributes:
        replaced: how many items were put and never taken, because a newer one came.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self.replaced = 0

    def put(self, item: T) -> bool:
        """Leave an item; returns whether it took the place of another. A closed mailbox ignores it."""
        with self._condition:
            if self._closed:
                return False
            replaced = self._item is not None
            self.replaced += replaced
            self._item = item
            self._condition.notify()
            return replaced

    def take(self, timeout_s: float | None = None) -> T | None:
        """Wait for an item and take it; None once the mailbox is closed, or after `timeout_s`."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed, timeout_s)
            item, self._item = self._item, None
            return None if self._closed else item

    def close(self) -> None:
        """Wake the taker for good; an item still inside is given up."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed
