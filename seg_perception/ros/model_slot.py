"""The model that serves, and how another one takes its place between two frames. No ROS in here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from seg_perception.segmenter import Segmenter

_LOOK_AGAIN_S = 0.05


class SlotClosedError(RuntimeError):
    """The model was let go, or a third one came, while another one was on its way in."""


@dataclass
class _Change:
    """A model on its way in; `taken` once it serves, or once it never will."""

    segmenter: Segmenter
    between: Callable[[], None]
    taken: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    before: Segmenter | None = None


class ModelSlot:
    """Holds the serving segmenter. One thread works with it, others may replace it or let it go.

    Args:
        segmenter: open and warm.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._frame = threading.Lock()  # held while a frame is in hand
        self._state = threading.Lock()  # held for moments
        self._change: _Change | None = None
        self._closed = False

    @property
    def segmenter(self) -> Segmenter:
        """The one that serves, for what it says of itself; frames go through `serving`."""
        return self._segmenter

    @contextmanager
    def serving(self) -> Iterator[Segmenter]:
        """The segmenter for one frame; it stays the same until the block is left."""
        with self._frame:
            self._take_change()
            yield self._segmenter

    def replace(self, segmenter: Segmenter, between: Callable[[], None]) -> Segmenter:
        """Let another segmenter serve from the next frame on. Waits for the frame in hand, if there is one.

        Args:
            segmenter: open and warm. It takes the place also of one that waits for the frame in hand.
            between: called when no frame is in hand, before the first one of the new model.

        Returns:
            the one that served before, which no frame uses any more.

        Raises:
            SlotClosedError: `close` was called, or `replace` once more; this model does not serve.
            Exception: what `between` raises; the model in place stays.
        """
        change = _Change(segmenter, between)
        with self._state:
            displaced, self._change = self._change, change
        if displaced is not None:
            displaced.error = SlotClosedError("another model was loaded meanwhile")
            displaced.taken.set()
        # Under overload the working thread takes the lock again at once, and takes the change itself with it.
        while not change.taken.is_set():
            if self._frame.acquire(timeout=_LOOK_AGAIN_S):
                try:
                    self._take_change()
                finally:
                    self._frame.release()
            elif self._closed:
                self._withdraw(change)
        if change.error is not None:
            raise change.error
        assert change.before is not None
        return change.before

    def close(self) -> Segmenter:
        """Let nothing else in; returns the segmenter in place, for the caller to close. A frame in hand is not waited for."""
        with self._state:
            self._closed = True
            return self._segmenter

    def _take_change(self) -> None:
        """With the frame's lock held."""
        with self._state:
            change, self._change = self._change, None
        if change is None:
            return
        try:
            if not self._closed:
                change.between()
            with self._state:
                if self._closed:
                    change.error = SlotClosedError("the node let its model go while another one was loaded")
                else:
                    change.before, self._segmenter = self._segmenter, change.segmenter
        except Exception as error:
            change.error = error
        change.taken.set()

    def _withdraw(self, change: _Change) -> None:
        """After `close`, where a frame in hand does not come to its end."""
        with self._state:
            if self._change is not change:
                return  # it is being taken
            self._change = None
        change.error = SlotClosedError("the node let its model go while another one was loaded")
        change.taken.set()
