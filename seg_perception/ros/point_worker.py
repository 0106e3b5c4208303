"""The thread that makes labelled points, so that labels never wait for them. No ROS in here."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter

from seg_perception.cdr import CdrError
from seg_perception.cloud import CloudError
from seg_perception.labelled_points import MaskedImage, PointMaker

_LOOK_EVERY_S = 1.0  # whether pairs come at all
MOST_WAITING = 16  # messages; what a thread that is behind has not looked at goes, oldest first


class PointWorker:
    """Takes masks and depth from other threads, and publishes the points.

    Args:
        maker: used by this thread only.
        publish: takes a serialized cloud.
        report: takes one line for what cannot become points.

    Attributes:
        published: clouds so far.
        failed: pairs and messages so far that could not become points.
        last_ms: that the newest cloud took, without publishing; 0 before the first.
    """

    def __init__(self, maker: PointMaker, publish: Callable[[bytes], object], report: Callable[[str], object]) -> None:
        self._maker = maker
        self._publish = publish
        self._report = report
        self._condition = threading.Condition()
        self._arrived: deque[MaskedImage | bytes] = deque(maxlen=MOST_WAITING)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="points", daemon=True)
        self.published = self.failed = 0
        self.last_ms = 0.0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, arrived: MaskedImage | bytes) -> None:
        """Masks, or a serialized message of depth or a cloud."""
        with self._condition:
            self._arrived.append(arrived)
            self._condition.notify()

    def close(self) -> None:
        """Publish nothing more; a cloud that is being made may still be finished in silence."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end, after `close`; False if that takes longer."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        looked_s = perf_counter()
        while not self._closed:
            self._work(self._take())
            if perf_counter() - looked_s > _LOOK_EVERY_S:
                looked_s = perf_counter()
                problem = self._maker.problem()
                if problem:
                    self._report(problem)

    def _take(self) -> list[MaskedImage | bytes]:
        with self._condition:
            self._condition.wait_for(lambda: self._arrived or self._closed, _LOOK_EVERY_S)
            arrived = list(self._arrived)
            self._arrived.clear()
            return arrived

    def _work(self, arrived: list[MaskedImage | bytes]) -> None:
        for message in arrived:
            self._guarded(lambda message=message: self._add(message))  # type: ignore[misc]
        while not self._closed and self._guarded(self._make):
            pass

    def _add(self, message: MaskedImage | bytes) -> bool:
        if isinstance(message, MaskedImage):
            self._maker.add_masks(message)
        else:
            self._maker.add_geometry(message)
        return True

    def _make(self) -> bool:
        """One cloud; False where there is no pair."""
        start_s = perf_counter()
        cloud = self._maker.make()
        if cloud is None:
            return False
        self.last_ms = 1e3 * (perf_counter() - start_s)
        with self._condition:  # so that nothing is published once `close` has returned
            if not self._closed:
                self._publish(cloud)
                self.published += 1
        return True

    def _guarded(self, step: Callable[[], bool]) -> bool:
        """What a step returns; True where it failed, which is reported: the next pair is another matter."""
        try:
            return step()
        except (CdrError, CloudError) as error:
            said = str(error)
        except Exception as error:  # one strange pair must not end the stream
            said = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
        self.failed += 1
        self._report(said)
        return True
