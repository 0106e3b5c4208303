"""How far a build is: from TensorRT's nested phases to one share, and from there to a bar or log lines."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from types import TracebackType

from tqdm import tqdm

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        phase: what is done now, in TensorRT's own words, such as "Timing tactics".
        share: of the whole build, 0 to 1; never goes back. A count of steps, not of time: some take much longer.
        elapsed_s: seconds since the build began.
    """

    phase: str
    share: float
    elapsed_s: float

    def __str__(self) -> str:
        return f"{100 * self.share:.0f} %, {self.phase}, {self.elapsed_s:.0f} s"


ProgressCallback = Callable[[BuildProgress], None]


@dataclass
class _Phase:
    parent: str
    steps: int
    done: int = 0
    inner: float = 0.0  # shares of the phases inside the step in hand


class PhaseTree:
    """Adds TensorRT's phases up. A phase has a number of steps; a step may hold phases of its own.

    Calls come from several threads; `report` is called with the phase in hand and the share whenever the share grew by
    `resolution` or another phase began.
    """

    def __init__(self, report: Callable[[str, float], None], resolution: float = 0.002) -> None:
        self._report = report
        self._resolution = resolution
        self._phases: dict[str, _Phase] = {}
        self._root = ""
        self._share = 0.0
        self._reported = ("", -1.0)
        self._lock = threading.Lock()

    def started(self, phase: str, parent: str, steps: int) -> None:
        with self._lock:
            self._phases[phase] = _Phase(parent if parent in self._phases else "", max(steps, 1))
            if not self._root:
                self._root = phase
            self._tell(phase)

    def stepped(self, phase: str, step: int) -> None:
        with self._lock:
            if phase in self._phases:  # one of the same name may have finished already
                self._phases[phase].done = max(self._phases[phase].done, step + 1)
                self._phases[phase].inner = 0.0
                self._tell(phase)

    def finished(self, phase: str) -> None:
        with self._lock:
            ended = self._phases.pop(phase, None)
            if ended is None:
                return
            if ended.parent in self._phases:
                self._phases[ended.parent].inner = 1.0
            if phase == self._root:
                self._share = 1.0
            self._tell(ended.parent or phase)

    def _tell(self, phase: str) -> None:
        if self._root in self._phases:
            self._share = max(self._share, self._share_of(self._root))
        last_phase, last_share = self._reported
        if phase != last_phase or self._share - last_share >= self._resolution:
            self._reported = (phase, self._share)
            self._report(phase, self._share)

    def _share_of(self, name: str) -> float:
        phase = self._phases[name]
        inner = [self._share_of(child) for child, p in self._phases.items() if p.parent == name]
        part = max([phase.inner, *inner])
        return min((phase.done + min(part, 1.0)) / phase.steps, 1.0)


class ProgressBar:
    """A build's progress as a bar in a terminal, on stderr. A context manager."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: tqdm | None = None

    def __enter__(self) -> ProgressBar:
        self._bar = tqdm(
            total=100.0,
            desc=self._title,
            bar_format="{desc}: {percentage:3.0f} % |{bar}| {elapsed} {postfix}",
            dynamic_ncols=True,
        )
        return self

    def __call__(self, progress: BuildProgress) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(progress.phase, refresh=False)
            self._bar.update(100.0 * progress.share - self._bar.n)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


class ProgressLog:
    """A build's progress as log lines: one at most every `interval_s` seconds, and the last.

    Args:
        write: takes a line; a node gives its own logger.
        interval_s: seconds between lines.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        write: Callable[[str], object] = logger.info,
        interval_s: float = 5.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._write = write
        self._interval_s = interval_s
        self._clock = clock
        self._last_s = -interval_s

    def __call__(self, progress: BuildProgress) -> None:
        now = self._clock()
        if now - self._last_s >= self._interval_s or progress.share >= 1.0:
            self._last_s = now
            self._write(f"building the TensorRT engine: {progress}")
