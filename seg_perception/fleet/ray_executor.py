"""Jobs as tasks of Ray, on this machine or a cluster: a fresh process each, anywhere that has free cores.

Recordings are read where they lie, so that every node must see them under the same path; models are sent along. Scores come
back to the driver, which alone writes. Ray is imported when an executor is entered, not before.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

import seg_perception
from seg_perception.fleet.executor import ATTEMPTS, Outcome, died, problem_line
from seg_perception.fleet.jobs import Job, ScoringOptions, model_digest
from seg_perception.fleet.ray_worker import Report, load_on_node, score_on_node

LOOK_EVERY_S = 5.0  # at the nodes, which come and go
GONE_AFTER_S = 20.0  # without the cluster's head; Ray would end this process after 60
REACHED_IN_S = 10.0  # Ray itself tries an address where nothing answers for minutes
NODES_ASKED = 3  # for a recording that neither the driver nor the nodes asked before see


@dataclass
class _Attempt:
    job: Job
    number: int = 1
    unseen_by: dict[str, str] = field(default_factory=dict)  # node ids and names


class RayExecutor:
    """See `Executor`.

    Args:
        address: of a cluster, such as "auto", "10.0.0.1:6379" or "ray://10.0.0.1:10001"; None starts Ray on this machine.
        workers: jobs at a time; 0: as many as the cluster's nodes hold.
        cpus: CPU cores that a job takes.
        gpus: GPUs that a job takes; 0.5 lets two share one.

    Raises:
        ValueError, OSError: when entered: Ray is not installed, or there is no such cluster, or one of another version.
    """

    def __init__(self, address: str | None, workers: int, cpus: int, gpus: float) -> None:
        self._address, self._workers, self._cpus, self._gpus = address, workers, cpus, gpus
        self._ray: Any = None
        self._silent_since: float | None = None
        self._told = False  # that no node has room
        self._tasks: dict[Callable[..., Any], Any] = {}
        self._models: dict[str, list[Any]] = {}  # content by SHA-256, in Ray's store
        self._blind: dict[str, str] = {}  # nodes that do not see what others see: ids and names

    def __enter__(self) -> RayExecutor:
        if self._address is None:
            _prepare_own_ray()
        try:
            import ray
        except ImportError as error:
            raise ValueError(
                f"Ray cannot be imported ({error}): pip install 'seg_perception[ray]', or leave out --ray and --ray-address: "
                "one machine needs no Ray"
            ) from error
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        try:
            _reach(self._address)
            if self._address is None:
                ray.init(address="local", include_dashboard=False, **quiet)
            else:
                ray.init(address=self._address, **quiet)
        except Exception as error:  # what Ray's start raises is not narrowed down
            if self._address is None:
                raise ValueError(f"Ray does not start on this machine: {problem_line(error)}") from error
            raise ValueError(
                f"no Ray at {self._address}: {problem_line(error)}; where the cluster asks for a token, set RAY_AUTH_MODE=token "
                "and RAY_AUTH_TOKEN_PATH"
            ) from error
        self._ray = ray
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()

    def describe(self) -> str:
        """As `Executor`."""
        nodes = self._nodes()
        cores = sum(node["Resources"].get("CPU", 0) for node in nodes)
        at_a_time = f"{self._workers} at a time" if self._workers else "as many at a time as fit"
        return f"Ray, {len(nodes)} node{'s' * (len(nodes) != 1)} of {cores:.0f} CPU cores in all, {at_a_time}"

    def check(self, model: Path, options: ScoringOptions, threads: int) -> None:
        """As `Executor`, on whichever node has room."""
        if not self._slots():
            self._no_room(fatal=self._address is None)
        digest = model_digest(model)
        self._models[digest] = [self._ray.put(model.read_bytes())]
        task = self._task(load_on_node, set())
        try:
            problem = self._ray.get(
                task.remote(model, digest, options, threads, self._models[digest], seg_perception.__version__)
            )
        except self._ray.exceptions.RayError as error:
            raise ValueError(f"{model} cannot be tried on a node: {self._cause(error)}") from error
        if problem:
            raise ValueError(problem)

    def run(self, jobs: Sequence[Job], finished: Callable[[Job, Outcome], None]) -> None:
        """As `Executor`. `check` has been called with each job's model. What still runs when this is left early, Ray ends
        with the driver's session.

        Raises:
            ConnectionError: the cluster is gone.
        """
        waiting = deque(_Attempt(job) for job in jobs)
        running: dict[Any, _Attempt] = {}
        looked_s, room = 0.0, 1
        try:
            while waiting or running:
                if monotonic() - looked_s > LOOK_EVERY_S and self._head_answers():
                    looked_s, room = monotonic(), self._room(waiting, finished)
                while waiting and len(running) < room:
                    one = waiting.popleft()
                    running[self._start(one)] = one
                for reference in self._ray.wait(list(running), timeout=LOOK_EVERY_S)[0] if running else ():
                    one = running.pop(reference)
                    outcome = self._outcome(one, reference)
                    if outcome is None:
                        waiting.append(one)
                        looked_s = 0.0  # what a worker or node died of may have changed what there is
                    else:
                        finished(one.job, outcome)
        except (self._ray.exceptions.RaySystemError, ConnectionError) as error:
            raise ConnectionError(
                f"Ray's cluster is gone: {problem_line(error)}; the same command goes on where it was"
            ) from error

    def _start(self, one: _Attempt) -> Any:
        task = self._task(score_on_node, {*self._blind, *one.unseen_by})
        return task.remote(one.job, self._models[one.job.digest], seg_perception.__version__)

    def _task(self, function: Callable[..., Any], avoided: set[str]) -> Any:
        """A remote function that Ray neither repeats (this file counts attempts) nor runs twice in one process."""
        if function not in self._tasks:
            options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_retries": 0, "max_calls": 1}
            self._tasks[function] = self._ray.remote(**options)(function)
        if not avoided:
            return self._tasks[function]
        return self._tasks[function].options(label_selector={"ray.io/node-id": f"!in({','.join(sorted(avoided))})"})

    def _outcome(self, one: _Attempt, reference: Any) -> Outcome | None:
        """How an attempt ended; None where it is to be made again."""
        try:
            report = self._ray.get(reference)
        except self._ray.exceptions.RaySystemError:
            raise
        except self._ray.exceptions.RayError as error:
            one.number += 1
            return None if one.number <= ATTEMPTS else died(self._cause(error))
        assert isinstance(report, Report)
        if report.outcome is not None:
            self._set_aside(one.unseen_by)  # this node sees what they do not
            return report.outcome
        one.unseen_by[report.node_id] = report.node
        if one.job.bag.exists():
            self._set_aside(one.unseen_by)
        elif len(one.unseen_by) >= NODES_ASKED or not self._slots({*self._blind, *one.unseen_by}):
            return _unseen(one, "nor does this machine")
        return None

    def _set_aside(self, nodes: dict[str, str]) -> None:
        for node_id in nodes.keys() - self._blind.keys():
            self._blind[node_id] = nodes[node_id]
            print(
                f"evaluate-bags: node {nodes[node_id]} does not see recordings that others see and gets no more; mount their "
                "storage there under the same path",
                file=sys.stderr,
                flush=True,
            )

    def _room(self, waiting: deque[_Attempt], finished: Callable[[Job, Outcome], None]) -> int:
        """How many may run or stand in Ray's queue; where no node is left that sees recordings, all that wait end."""
        slots = self._slots(set(self._blind))
        if not slots and self._blind:
            while waiting:
                one = waiting.popleft()
                one.unseen_by |= self._blind
                finished(one.job, _unseen(one, "and no other node is left"))
        elif not slots and not self._told:
            self._no_room(fatal=False)
        self._told = not slots
        # As many again in the queue: no node idles between two jobs, and a cluster that can grow is asked to.
        return min(self._workers or sys.maxsize, max(1, 2 * slots))

    def _head_answers(self) -> bool:
        """Whether the cluster's head can be asked.

        Raises:
            ConnectionError: it has not answered for GONE_AFTER_S.
        """
        if (self._address or "").startswith(
            "ray://"
        ):  # only the client's server is to be reached, which tells by itself
            return True
        try:
            _reach(self._ray.get_runtime_context().gcs_address)
        except OSError as error:
            self._silent_since = self._silent_since or monotonic()
            if monotonic() - self._silent_since > GONE_AFTER_S:
                raise ConnectionError(f"its head does not answer: {problem_line(error)}") from error
            return False
        self._silent_since = None
        return True

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _slots(self, avoided: set[str] | None = None) -> int:
        """Jobs that fit on the nodes at a time."""
        slots = 0
        for node in self._nodes():
            if node["NodeID"] not in (avoided or ()):
                has = node["Resources"]
                fit = int(has.get("CPU", 0) // self._cpus)
                slots += min(fit, int(has.get("GPU", 0) / self._gpus)) if self._gpus else fit
        return slots

    def _no_room(self, fatal: bool) -> None:
        largest: dict[str, float] = max(
            (node["Resources"] for node in self._nodes()), key=lambda has: has.get("CPU", 0), default={}
        )
        line = (
            f"no node of Ray has the {self._cpus} CPU cores and {self._gpus:g} GPUs that a job takes, the largest has "
            f"{largest.get('CPU', 0):.0f} and {largest.get('GPU', 0):g}; --threads and --gpus-per-worker say what a job takes"
        )
        if fatal:
            raise ValueError(line)
        print(f"evaluate-bags: waiting: {line}", file=sys.stderr, flush=True)

    def _cause(self, error: Exception) -> str:
        """What an attempt died of, in a few words."""
        errors = self._ray.exceptions
        if isinstance(error, errors.RayTaskError):
            return f"{type(error.cause).__name__}: {problem_line(error.cause)}"
        known = {
            errors.OutOfMemoryError: "lack of memory",
            errors.NodeDiedError: "its node's death",
            errors.WorkerCrashedError: "a signal, lack of memory or a crash",
        }
        return known.get(type(error), f"{type(error).__name__}: {problem_line(error)}")


def _prepare_own_ray() -> None:
    """Settings of a Ray that is started here, where the environment does not say otherwise; before Ray is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves unasked
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # it would hide GPUs from jobs that ask for none
    if "RAY_AUTH_MODE" not in os.environ:  # a token for this run alone: Ray would write one into the home
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def _reach(address: str | None) -> None:
    """Raises OSError where nothing answers at an address of a host and port."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), REACHED_IN_S).close()


def _unseen(one: _Attempt, who_else: str) -> Outcome:
    names = ", ".join(sorted(set(one.unseen_by.values())))
    return Outcome(
        problem=f"nodes {names} do not see {one.job.bag}, {who_else}: put recordings on storage that every node sees under the "
        "same path"
    )
