"""How far TensorRT's build is, for those who wait for the node: log lines, and diagnostics while nothing else sends them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from seg_perception.engines.tensorrt.progress import BuildProgress, ProgressLog

PUBLISH_EVERY_S = 1.0


class BuildReports:
    """Takes a build's progress, from whichever thread.

    Args:
        write: logs a line.
        publish: sends diagnostics. Called only in the thread that made this, which is in `configure` then and keeps the
            timer of the diagnostics from its work; a build in the background leaves them to that timer.

    Attributes:
        state: what is done now, in one line.
    """

    def __init__(self, write: Callable[[str], object], publish: Callable[[], object]) -> None:
        self.state = ""
        self._log = ProgressLog(write)
        self._publish = publish
        self._thread = threading.get_ident()
        self._published_s = -PUBLISH_EVERY_S

    def __call__(self, progress: BuildProgress) -> None:
        self.state = f"building the TensorRT engine: {progress}"
        self._log(progress)
        now = monotonic()
        if threading.get_ident() == self._thread and now - self._published_s >= PUBLISH_EVERY_S:
            self._published_s = now
            self._publish()
