"""An engine that is opened again, in a thread of its own. No ROS in here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from seg_perception.segmenter import Segmenter

RETRY_S = 5.0  # after a new start that failed

Opened = Callable[["EngineRestart", Segmenter, "Exception | None"], object]


class EngineRestart:
    """A new engine on its way.

    Args:
        keeps_serving: whether the engine before goes on meanwhile: one that fails does, one that hangs cannot.
        now: seconds that never go back.

    Attributes:
        keeps_serving: as given.
        error: with what it failed; empty while it has not.
        thread: that opens it; None before.
    """

    def __init__(self, keeps_serving: bool, now: Callable[[], float] = monotonic) -> None:
        self.keeps_serving = keeps_serving
        self.error = ""
        self.thread: threading.Thread | None = None
        self._now = now
        self._since_s = now()
        self._failed_s = 0.0

    @property
    def elapsed_s(self) -> float:
        """Since it was begun."""
        return self._now() - self._since_s

    @property
    def is_due_again(self) -> bool:
        """Whether it failed, and should be tried again now."""
        return bool(self.error) and self._now() - self._failed_s > RETRY_S

    def open(self, segmenter: Segmenter, opened: Opened) -> None:
        """Open it and warm it up; `opened` is then called in the thread that did, with what was raised, if anything was."""

        def run() -> None:
            error: Exception | None = None
            try:
                segmenter.open()
                segmenter.warm_up()
            except Exception as raised:
                error = raised
            opened(self, segmenter, error)

        self.thread = threading.Thread(target=run, name="starting an engine anew", daemon=True)
        self.thread.start()

    def failed(self, error: Exception) -> None:
        """It cannot be opened."""
        self._failed_s = self._now()
        self.error = " ".join(str(error).split()) or type(error).__name__
