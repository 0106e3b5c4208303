"""What is done about an engine that hangs or fails every image: started anew, replaced by another, or the process ends.

No ROS in here. The order, from what costs least:

1. A frame that hangs while it is decoded or published, not in the engine: a new worker, the same engine.
2. In the engine: the same engine anew. On a GPU that lost its context that may be enough.
3. Again within REMEMBER_S: the next engine that is installed, and so on round.
4. More threads hang than `most_lost`: nothing in this process helps any more. Each of them keeps an engine's memory, and a
   thread cannot be ended from outside; a new process starts clean, and its launch file or service manager starts it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from time import monotonic

ENGINES_BESIDE = ("onnxruntime", "openvino")  # that need no GPU, the one that defines the results first
REMEMBER_S = 3600.0  # an engine that hangs once a day is started anew, not replaced
FAILURES = 10  # images in a row that the engine fails
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0  # between two new starts for failures alone


class TooManyHangsError(RuntimeError):
    """More worker threads hang than may be left behind. One line, for the end of the process."""


class RecoveryPlan:
    """Remembers what went wrong since the node was configured, and says with which engine to go on.

    Args:
        asked: engine that the node was configured with, one of ENGINE_KINDS; `auto` stays the first choice.
        serving: what `auto` turned out to be.
        installed: whether a package is.
        now: seconds that never go back.
    """

    def __init__(
        self,
        asked: str,
        serving: str,
        installed: Callable[[str], bool] = lambda package: importlib.util.find_spec(package) is not None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._now = now
        beside = [kind for kind in ENGINES_BESIDE if kind != serving and installed(kind)]
        self._kinds = [asked, *beside]
        self._names = [serving, *beside]
        self._place = 0
        self._troubles_s: list[float] = []
        self._restarted_s = -float("inf")
        self._pause_s = FIRST_PAUSE_S
        self.trouble = ""

    @property
    def problem(self) -> str:
        """Why another engine serves than was asked for; empty where that is not so."""
        if self._place == 0:
            return ""
        return f"{self._names[0]} {self.trouble}; {self._names[self._place]} serves instead, until the next configure"

    @property
    def engine(self) -> str:
        """That serves now."""
        return self._kinds[self._place]

    def next_engine(self, trouble: str) -> str:
        """The engine to start now.

        Args:
            trouble: what it did, such as "hung twice", for `problem`.
        """
        now = self._now()
        self._troubles_s = [at for at in self._troubles_s if now - at < REMEMBER_S] + [now]
        if len(self._troubles_s) > 1 and len(self._kinds) > 1:
            if self._place == 0:
                self.trouble = trouble
            self._place = (self._place + 1) % len(self._kinds)
            self._troubles_s = []  # of another engine
        self._restarted_s = now
        return self._kinds[self._place]

    def fails_too_often(self, failures: int) -> bool:
        """Whether an engine that failed so many images in a row should be started anew; the pauses in between grow."""
        if failures < FAILURES or self._now() - self._restarted_s < self._pause_s:
            return False
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return True
