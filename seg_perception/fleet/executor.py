"""Where jobs run: what every executor does, and one attempt at a job, wherever it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from seg_perception.engines.base import EngineError
from seg_perception.fleet.bag_scores import score_bag
from seg_perception.fleet.jobs import Job, ScoringOptions

ATTEMPTS = 2  # for a worker that dies; what it can say about a recording would be the same the second time
LONGEST_PROBLEM = 2000  # characters


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        scores: what `score_bag` gave, or None.
        problem: why there are none, in one line; "" where there are.
    """

    scores: str | None = None
    problem: str = ""


class Executor(Protocol):
    """Runs jobs, each in a process of its own. Use it as a context manager."""

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def describe(self) -> str:
        """Where it runs how many jobs at a time, in one line."""
        ...

    def check(self, model: Path, options: ScoringOptions, threads: int) -> None:
        """Load the model where jobs run: what no worker could load shows now, not once a recording.

        Raises:
            ValueError, OSError, EngineError: it cannot be loaded.
        """
        ...

    def run(self, jobs: Sequence[Job], finished: Callable[[Job, Outcome], None]) -> None:
        """Run every job; one whose worker dies is tried ATTEMPTS times.

        Args:
            jobs: to do.
            finished: called here with each job as it ends.
        """
        ...


def attempt(job: Job) -> Outcome:
    """Score a recording in this process; what can be said of a bad one is its outcome, no error."""
    try:
        return Outcome(score_bag(job))
    except (ValueError, OSError, EngineError) as error:
        return Outcome(problem=problem_line(error))


def problem_line(error: BaseException) -> str:
    """What an error says, in one line of at most LONGEST_PROBLEM characters."""
    return (" ".join(str(error).split()) or type(error).__name__)[:LONGEST_PROBLEM]


def died(cause: str) -> Outcome:
    """The outcome of a job whose workers died ATTEMPTS times."""
    return Outcome(problem=f"its worker died {ATTEMPTS} times, at last of {cause}"[:LONGEST_PROBLEM])
