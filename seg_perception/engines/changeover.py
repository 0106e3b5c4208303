"""An engine that takes long to open, and another that serves until it has, or where it fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from seg_perception.engines.base import Engine, EngineError, MaskRequest

if TYPE_CHECKING:
    from seg_perception.painting import Painted

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

WHILE_BUILDING = ("wait", "fallback")
_CLOSE_S = 30.0  # what an engine that is being opened needs at most to notice that it is stopped; otherwise it hangs


class ChangeoverEngine(Engine):
    """Serves with a fallback while the wanted engine is opened in the background, or whenever that one fails.

    It changes over between two calls of `infer`: each image is computed by exactly one of them, none is lost and none twice.
    A failure of the wanted engine in the middle of an image is no loss either: the fallback computes the same image.

    Args:
        wanted: the engine to change over to; not open.
        fallback: makes the other one; raises EngineError where there is none.
        while_building: "wait": `open` returns when the wanted engine is open (or has failed); "fallback": at once.
        stop: set to end what `wanted.open` is doing in another thread.
        state: how far that is, in a few words, for `description`.
    """

    def __init__(
        self,
        wanted: Engine,
        fallback: Callable[[], Engine],
        while_building: str,
        stop: threading.Event,
        state: Callable[[], str],
    ) -> None:
        super().__init__(wanted.info, wanted.threads, wanted.precision, wanted.batch_size)
        if while_building not in WHILE_BUILDING:
            raise ValueError(f"while_building is {while_building!r}, expected one of: {', '.join(WHILE_BUILDING)}")
        self._wanted = wanted
        self._make_fallback = fallback
        self._while_building = while_building
        self._stop = stop
        self._state = state
        self._active: Engine | None = None
        self._opening: threading.Thread | None = None
        self._lock = threading.Lock()  # of what the opening thread and the others share: the next four
        self._busy = False  # the opening thread has the wanted engine
        self._ready = False  # it has opened it, and let go of it
        self._wants_device = True  # whether it is to leave it open
        self._problem = ""

    @property
    def name(self) -> str:  # type: ignore[override]
        """Of the engine that serves now."""
        return self._wanted.name if self._active is None else self._active.name

    @property
    def description(self) -> str:
        if self._active is None or self._active is self._wanted:
            return self._wanted.description
        return f"{self._active.description} ({self.problem or f'until {self._state()}'})"

    @property
    def holds_device(self) -> bool:
        return self._ready or (self._active is not None and self._active.holds_device)

    @property
    def device_memory(self) -> tuple[int, int] | None:
        return None if self._active is None else self._active.device_memory

    @property
    def best_batch(self) -> int:
        return 1 if self._active is None else self._active.best_batch

    @property
    def problem(self) -> str:
        if self._problem:
            return f"{self._wanted.name} failed: {self._problem}"
        return self._wanted.problem if self._active is self._wanted else ""

    def open(self) -> None:
        if self._active is not None:
            self._active.open()  # after `release_device`; otherwise it does nothing
            self._open_in_background()
            return
        with self._lock:
            busy = self._busy
        if busy:  # `close` has not waited for it any longer
            self._fall_back(
                EngineError(f"{self._wanted.name} is still being opened as it was asked before; try again later")
            )
            return
        self._problem = ""
        self._stop.clear()
        if self._while_building == "wait":
            try:
                self._wanted.open()
            except RuntimeError as error:  # what a person got wrong, a ValueError, is theirs to put right
                self._fall_back(error)
            else:
                self._active = self._wanted
            return
        self._active = self._open_fallback()
        self._open_in_background()

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        if self._active is None:
            raise EngineError(f"engine {self._wanted.name} is not open; call open() first")
        self._check_image(image)
        return self._by_the_active(lambda engine: engine.infer(image))

    def infer_painted(
        self, image: np.ndarray, size: tuple[int, int], confidence: bool, superpixels: bool
    ) -> Painted | None:
        if self._active is None:
            raise EngineError(f"engine {self._wanted.name} is not open; call open() first")
        self._check_image(image)
        return self._by_the_active(lambda engine: engine.infer_painted(image, size, confidence, superpixels))

    def infer_painted_batch(self, images: np.ndarray, requests: Sequence[MaskRequest]) -> list[Painted] | None:
        if self._active is None:
            raise EngineError(f"engine {self._wanted.name} is not open; call open() first")
        return self._by_the_active(lambda engine: engine.infer_painted_batch(images, requests))

    def release_device(self) -> None:
        if self._active is None:
            return
        if self._active is self._wanted:
            self.close()
            return
        self._active.release_device()
        with self._lock:
            self._wants_device = False  # a build in hand goes on, for the cache
            if self._ready:
                self._ready = False
                self._wanted.close()

    def close(self) -> None:
        if self._opening is not None:
            with self._lock:
                self._wants_device = False
            self._stop.set()
            self._opening.join(_CLOSE_S)
            self._opening = None
        if self._active is not None:
            self._active.close()
        with self._lock:
            if self._busy:
                logger.error(
                    "%s is still being opened after %g s; it is left to close by itself", self._wanted.name, _CLOSE_S
                )
            elif self._active is not self._wanted:
                self._wanted.close()
            self._ready = False
        self._active = None

    def _by_the_active(self, compute: Callable[[Engine], Result]) -> Result:
        assert self._active is not None
        if self._ready and self._active is not self._wanted:
            with self._lock:
                self._ready = False
            served, self._active = self._active, self._wanted
            served.close()
            logger.info("changed over from %s to %s", served.name, self._wanted.description)
        if self._active is not self._wanted:
            return compute(self._active)
        try:
            return compute(self._wanted)
        except RuntimeError as error:  # EngineError among them, and what bindings of C++ libraries raise
            self._fall_back(error)
            self._wanted.close()
            return compute(self._active)

    def _open_in_background(self) -> None:
        """Unless the wanted engine serves, is ready, is being opened, or has failed."""
        with self._lock:
            self._wants_device = True
            if self._active is self._wanted or self._ready or self._busy or self._problem:
                return
            self._busy = True
        self._opening = threading.Thread(target=self._open_wanted, name=f"opening {self._wanted.name}", daemon=True)
        self._opening.start()

    def _open_wanted(self) -> None:
        problem = ""
        try:
            self._wanted.open()
        except Exception as error:  # of whatever kind: nobody else would hear of it
            problem = " ".join(str(error).split()) or type(error).__name__
            logger.error("%s; it goes on with the fallback", problem)
        with self._lock:
            self._busy = False
            if problem:
                self._problem = problem
            elif self._wants_device:
                self._ready = True
            else:
                self._wanted.close()

    def _fall_back(self, error: BaseException) -> None:
        """Make the fallback the active engine. Where there is none, what was wrong with the wanted one is raised."""
        try:
            self._active = self._open_fallback()
        except EngineError as without:
            raise EngineError(f"{error}; and there is no fallback: {without}") from error
        self._problem = str(error)
        logger.error("%s; it goes on with %s", error, self._active.description)

    def _open_fallback(self) -> Engine:
        engine = self._make_fallback()
        engine.open()
        return engine
