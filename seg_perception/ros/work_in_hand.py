"""What a worker thread is at, so that others see when it hangs, and can go on without it. No ROS in here."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

DECODE, INFER, PUBLISH = "decode", "infer", "publish"
_LOOK_BACK = 8  # frames


class GivenUpError(Exception):
    """The thread was given up: it must touch nothing of the node any more, and come to its end."""


@dataclass(frozen=True)
class Work:
    """The frame in hand.

    Attributes:
        camera: whose it is, as logs name it.
        stage: DECODE, INFER or PUBLISH.
        elapsed_s: since it was taken in hand.
    """

    camera: str
    stage: str
    elapsed_s: float

    @property
    def in_engine(self) -> bool:
        """Whether the model is being used: nobody else may use it then."""
        return self.stage == INFER

    def __str__(self) -> str:
        doing = {DECODE: "decoded", INFER: "segmented", PUBLISH: "published"}[self.stage]
        return f"an image of {self.camera} has been {doing} for {self.elapsed_s:.1f} s"


class WorkInHand:
    """One worker thread's. That thread says what it does; any other may look, or give it up.

    Args:
        now: seconds that never go back.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._camera = self._stage = ""
        self._since_s: float | None = None
        self._durations_s: deque[float] = deque(maxlen=_LOOK_BACK)
        self._given_up = False

    @contextmanager
    def taken(self, camera: str) -> Iterator[None]:
        """A frame of a camera, until the block is left.

        Raises:
            GivenUpError: this thread was given up.
        """
        with self._lock:
            self._check()
            self._camera, self._stage, self._since_s = camera, DECODE, self._now()
        try:
            yield
        finally:
            with self._lock:
                if self._since_s is not None:
                    self._durations_s.append(self._now() - self._since_s)
                self._since_s = None

    def at(self, stage: str) -> None:
        """The next stage begins. Raises GivenUpError where this thread was given up: what follows must not happen."""
        with self._lock:
            self._check()
            self._stage = stage

    @property
    def stage(self) -> str:
        """The newest one."""
        return self._stage

    @property
    def present(self) -> Work | None:
        """What is in hand now; None where nothing is."""
        with self._lock:
            return self._present()

    @property
    def usual_s(self) -> float:
        """The longest that one of the last frames took."""
        with self._lock:
            return max(self._durations_s, default=0.0)

    def give_up(self) -> Work | None:
        """From now on the thread is told to end, wherever it says what it does. Returns what it had in hand."""
        with self._lock:
            self._given_up = True
            return self._present()

    def give_up_after(self, limit_s: float) -> Work | None:
        """As `give_up`, if a frame has been in hand for longer; else None, and nothing happens."""
        with self._lock:
            work = self._present()
            if work is None or work.elapsed_s <= limit_s:
                return None
            self._given_up = True
            return work

    @property
    def given_up(self) -> bool:
        """Whether `give_up` was called."""
        return self._given_up

    def _check(self) -> None:
        if self._given_up:
            raise GivenUpError

    def _present(self) -> Work | None:
        if self._since_s is None:
            return None
        return Work(self._camera, self._stage, self._now() - self._since_s)
