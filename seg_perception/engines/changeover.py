"""An engine that takes long to open, and another that serves until it has, or where it fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from seg_perception.engines.base import Engine, EngineError

if TYPE_CHECKING:
    from seg_perception.painting import Painted

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

WHILE_BUILDING = ("wait", "fallback")


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
        self._opened = threading.Event()  # set by the opening thread; the wanted engine is this thread's from then on
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
        return self._active is not None and self._active.holds_device

    @property
    def problem(self) -> str:
        if self._problem:
            return f"{self._wanted.name} failed: {self._problem}"
        return self._wanted.problem if self._active is self._wanted else ""

    def open(self) -> None:
        if self._active is not None:
            return
        self._problem = ""
        self._opened.clear()
        self._stop.clear()
        if self._while_building == "wait":
            try:
                self._wanted.open()
            except EngineError as error:  # what a person got wrong, a ValueError, is theirs to put right
                self._fall_back(error)
            else:
                self._active = self._wanted
            return
        self._active = self._open_fallback()
        self._opening = threading.Thread(target=self._open_wanted, name=f"opening {self._wanted.name}", daemon=True)
        self._opening.start()

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

    def close(self) -> None:
        if self._opening is not None:
            self._stop.set()
            self._opening.join()
            self._opening = None
        if self._active is not None:
            self._active.close()
        if self._active is not self._wanted:
            self._wanted.close()
        self._active = None

    def _by_the_active(self, compute: Callable[[Engine], Result]) -> Result:
        assert self._active is not None
        if self._opened.is_set() and self._active is not self._wanted:
            self._opened.clear()
            served, self._active = self._active, self._wanted
            served.close()
            logger.info("changed over from %s to %s", served.name, self._wanted.description)
        if self._active is not self._wanted:
            return compute(self._active)
        try:
            return compute(self._wanted)
        except EngineError as error:
            self._fall_back(error)
            self._wanted.close()
            return compute(self._active)

    def _open_wanted(self) -> None:
        try:
            self._wanted.open()
        except (EngineError, ValueError, OSError) as error:
            self._problem = str(error)
            logger.error("%s; it goes on with the fallback", error)
        else:
            self._opened.set()

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
