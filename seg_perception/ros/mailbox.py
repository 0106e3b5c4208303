"""Hand-over of the newest frame of each camera from the camera callbacks to a worker thread."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Sender = TypeVar("Sender")
Item = TypeVar("Item")


class Mailbox(Generic[Sender, Item]):
    """Holds at most one item of each sender: a new one takes the place of one that nobody has taken yet.

    A robot wants the mask of the newest image, not of all images one after the other with a growing delay. The sender
    that has waited longest is served first, where waiting begins with the first item that was not taken and goes on when a
    newer one replaces it: a camera of 100 Hz gets no more than one of 5 Hz that wants it too. Any thread puts, one takes;
    none ever waits for the other's work.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._items: dict[Sender, Item] = {}  # in the order in which their senders began to wait
        self._closed = False

    def put(self, sender: Sender, item: Item) -> bool:
        """Leave an item; returns whether it took the place of another of this sender. A closed mailbox ignores it."""
        with self._condition:
            if self._closed:
                return False
            replaced = sender in self._items
            self._items[sender] = item  # a key that is there keeps its place
            self._condition.notify()
            return replaced

    def take(self, most: int = 1, timeout_s: float | None = None) -> list[tuple[Sender, Item]]:
        """Wait for an item, and take it and up to `most` in all, of as many senders, the longest waiting first.

        Returns:
            sender and item; empty once the mailbox is closed, or after `timeout_s`.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._closed, timeout_s)
            if self._closed:
                return []
            first = list(self._items)[:most]
            return [(sender, self._items.pop(sender)) for sender in first]

    def put_back(self, sender: Sender, item: Item) -> bool:
        """Leave an item that was taken and not worked on, if nothing newer of its sender is here; returns whether it was."""
        with self._condition:
            if self._closed or sender in self._items:
                return False
            self._items = {sender: item, **self._items}  # it waited longest
            self._condition.notify()
            return True

    def withdraw(self, sender: Sender) -> bool:
        """Give up what a sender has inside; returns whether there was anything."""
        with self._condition:
            return self._items.pop(sender, None) is not None

    def close(self) -> None:
        """Wake the taker for good; items still inside are given up."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed
