"""Jobs on this machine, a process each: what one of them dies of costs that recording alone. Needs no Ray."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread
from types import TracebackType

from seg_perception.fleet.executor import ATTEMPTS, Outcome, attempt, died
from seg_perception.fleet.jobs import Job, ScoringOptions
from seg_perception.segmenter import Segmenter


class LocalExecutor:
    """See `Executor`.

    Args:
        workers: processes at a time, at least 1.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def describe(self) -> str:
        """As `Executor`."""
        return f"this machine, {self._workers} at a time"

    def check(self, model: Path, options: ScoringOptions, threads: int) -> None:
        """As `Executor`."""
        Segmenter(model, options.engine, threads, options.precision).close()

    def run(self, jobs: Sequence[Job], finished: Callable[[Job, Outcome], None]) -> None:
        """As `Executor`."""
        context = multiprocessing.get_context("spawn")  # engines hold threads, which do not survive a fork
        waiting = deque((job, 1) for job in jobs)
        running: dict[Connection, tuple[Job, int, SpawnProcess]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._workers:
                    job, number = waiting.popleft()
                    receiver, sender = context.Pipe(duplex=False)
                    process = context.Process(target=_work, args=(job, sender), name=job.bag.name, daemon=True)
                    process.start()
                    sender.close()  # the worker's alone now: with its death the pipe ends
                    running[receiver] = (job, number, process)
                ended = set(wait(list(running)))
                for receiver in [one for one in running if one in ended]:
                    job, number, process = running.pop(receiver)
                    outcome = _outcome(receiver)
                    receiver.close()
                    process.join()
                    if outcome is None and number < ATTEMPTS:
                        waiting.append((job, number + 1))
                    else:
                        finished(job, outcome or died(_cause(process.exitcode)))
        finally:
            for receiver, (_, _, process) in running.items():
                process.kill()
                process.join()
                receiver.close()


def _outcome(receiver: Connection) -> Outcome | None:
    """What the worker said; None where it died without a word, or in the middle of one."""
    try:
        outcome = receiver.recv()
    except (EOFError, OSError):
        return None
    assert isinstance(outcome, Outcome)
    return outcome


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"


def _work(job: Job, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keyboard's is the parent's, who ends its workers
    Thread(target=_end_with_parent, daemon=True).start()
    sender.send(attempt(job))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
