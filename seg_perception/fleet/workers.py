"""A process for each recording: what one of them dies of costs that recording alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from threading import Thread

from seg_perception.engines.base import EngineError
from seg_perception.fleet.bag_scores import score_bag
from seg_perception.fleet.jobs import Job

ATTEMPTS = 2  # for a worker that dies; what it can say about a recording would be the same the second time
LONGEST_PROBLEM = 2000  # characters, far below what a pipe takes before anybody reads it


def run_jobs(jobs: Sequence[Job], workers: int, finished: Callable[[Job, str], None]) -> None:
    """Run every job in a process of its own, `workers` at a time.

    Args:
        jobs: to do.
        workers: at least 1.
        finished: called here with each job as it ends, and with what was wrong in one line, or "".
    """
    context = multiprocessing.get_context("spawn")  # engines hold threads, which do not survive a fork
    waiting = deque((job, 1) for job in jobs)
    running: dict[int, tuple[Job, int, SpawnProcess, Connection]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job, attempt = waiting.popleft()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(job, sender), name=job.bag.name, daemon=True)
                process.start()
                sender.close()
                running[process.sentinel] = (job, attempt, process, receiver)
            ended = set(wait(list(running)))
            for sentinel in [number for number in running if number in ended]:
                job, attempt, process, receiver = running.pop(sentinel)
                process.join()
                problem = _problem(process.exitcode, receiver)
                receiver.close()
                if problem is None and attempt < ATTEMPTS:
                    waiting.append((job, attempt + 1))
                elif problem is None:
                    finished(job, f"its worker died {attempt} times, at last of {_cause(process.exitcode)}")
                else:
                    finished(job, problem)
    finally:
        for _, _, process, receiver in running.values():
            process.kill()
            process.join()
            receiver.close()


def _problem(exit_code: int | None, receiver: Connection) -> str | None:
    """What the worker said, "" for nothing wrong; None where it died without a word."""
    if exit_code == 0:
        try:
            return str(receiver.recv())
        except EOFError:
            return None
    return None


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"


def _work(job: Job, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keyboard's is the parent's, who ends its workers
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        score_bag(job)
        problem = ""
    except (ValueError, OSError, EngineError) as error:
        problem = " ".join(str(error).split()) or type(error).__name__
    sender.send(problem[:LONGEST_PROBLEM])


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
