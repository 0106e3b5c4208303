"""How far a long job is and how long is left: a bar in a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
from time import monotonic
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

LINE_EVERY_S = 10.0


class Progress:
    """Counts the steps of a job; use it as a context manager.

    Args:
        name: of the job.
        total: number of steps; None where it is not known.
        unit: what a step is, such as "frame".
        shown: False for a job that nobody watches.
        stream: where to; a terminal gets a bar with the time left, anything else a line every LINE_EVERY_S seconds and
            one at the end.

    Attributes:
        done: steps so far.
    """

    def __init__(
        self, name: str, total: int | None, unit: str, shown: bool = True, stream: TextIO | None = None
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._name, self._total, self._unit = name, total, unit
        self.done = 0
        self._bar: tqdm | None = None
        if shown and self._stream.isatty():
            self._bar = tqdm(total=total, unit=unit, desc=name, file=self._stream, dynamic_ncols=True)
        self._lines = shown and self._bar is None
        self._begin_s = self._line_s = monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._lines:
            what = self._name if self._total is None else self._counted()
            print(f"{what} took {spoken(monotonic() - self._begin_s)}", file=self._stream, flush=True)

    def step(self, note: str = "") -> None:
        """One step more is done; `note` is shown beside the count."""
        self.done += 1
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update()
        elif self._lines and monotonic() - self._line_s >= LINE_EVERY_S:
            self._line_s = monotonic()
            print(self.line(note), file=self._stream, flush=True)

    def line(self, note: str = "") -> str:
        """The state in one line, such as "scoring: 40 of 120 frames, 8 s left"."""
        elapsed_s = monotonic() - self._begin_s
        left = ""
        if self._total is not None and self.done:
            left = f", {spoken(elapsed_s / self.done * max(self._total - self.done, 0))} left"
        return f"{self._counted()}{left}{note and f' ({note})'}"

    def _counted(self) -> str:
        of = "" if self._total is None else f" of {self._total}"
        plural = "" if (self._total or self.done) == 1 else "s"
        return f"{self._name}: {self.done}{of} {self._unit}{plural}"


def spoken(seconds: float) -> str:
    """A duration as people say it: "8 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
