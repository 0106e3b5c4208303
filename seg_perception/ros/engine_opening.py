"""An engine that is opened while a transition or a service waits for it, but not for ever. No ROS in here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from seg_perception.engines.base import EngineError
from seg_perception.ros.guarded_node import OPENING_TIMES
from seg_perception.segmenter import Segmenter

POLL_S = 0.05


class OpeningHangsError(EngineError):
    """An engine that neither opened nor failed in time.

    Attributes:
        thread: which is left behind with it, and frees it if it ever comes back.
    """

    def __init__(self, message: str, thread: threading.Thread) -> None:
        super().__init__(message)
        self.thread = thread


def open_in_time(
    segmenter: Segmenter, allowed_s: float, is_building: Callable[[], bool], now: Callable[[], float] = monotonic
) -> float:
    """Open it and warm it up, in a thread of its own.

    Args:
        segmenter: that is not open. After OpeningHangsError it belongs to the thread that is left behind: leave it alone.
        allowed_s: for both; what TensorRT builds does not count, it has a process and a limit of its own.
        is_building: whether it does.
        now: seconds that never go back.

    Returns:
        milliseconds of an image, as `Segmenter.warm_up` measures them.

    Raises:
        OpeningHangsError: time is up.
        EngineError, ValueError, OSError: as `Segmenter.open` and `warm_up`.
    """
    done, turn = threading.Event(), threading.Lock()
    warm_ms: list[float] = []
    failures: list[Exception] = []
    given_up = False

    def run() -> None:
        try:
            segmenter.open()
            warm_ms.append(segmenter.warm_up())
        except Exception as error:
            failures.append(error)
        with turn:
            done.set()
            is_late = given_up
        if is_late:
            segmenter.close()

    thread = threading.Thread(target=run, name="opening an engine", daemon=True)
    began_s = counted_from_s = now()
    thread.start()
    while not done.wait(POLL_S):
        if is_building():
            counted_from_s = now()
        elif now() - counted_from_s > allowed_s:
            with turn:
                given_up = not done.is_set()
            break
    if given_up:
        raise OpeningHangsError(
            f"the engine of {segmenter.info.name} has been opened for {now() - began_s:.0f} s without end, {allowed_s:.0f} s "
            f"may be ({OPENING_TIMES} x the parameter hang_timeout_s); given up. Try another engine (parameter engine), or raise "
            "hang_timeout_s where the machine is as slow as that",
            thread,
        )
    if failures:
        raise failures[0]
    return warm_ms[0]
