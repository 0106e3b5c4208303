"""What runs on a node of a Ray cluster: one attempt at a job, with what may be different there looked at first."""

from __future__ import annotations

import getpass
import os
import socket
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import seg_perception
from seg_perception.engines.base import EngineError
from seg_perception.fleet.executor import Outcome, attempt, problem_line
from seg_perception.fleet.jobs import Job, ScoringOptions, model_digest
from seg_perception.segmenter import Segmenter


@dataclass(frozen=True)
class Report:
    """What a node says of a job.

    Attributes:
        node_id: Ray's name of the node; node: its host name.
        outcome: None where the node does not see the recording's path.
    """

    node_id: str
    node: str
    outcome: Outcome | None


def score_on_node(job: Job, model: list[Any], version: str) -> Report:
    """Score a recording.

    Args:
        job: with the model's path on the driver's machine.
        model: one reference to the model's content, fetched only where the path holds no such model.
        version: of this package on the driver's machine.
    """
    import ray

    node_id, node = ray.get_runtime_context().get_node_id(), socket.gethostname()
    try:
        _check_version(version)
        if not job.bag.exists():
            return Report(node_id, node, None)
        outcome = attempt(replace(job, model=model_on_node(job.model, job.digest, model)))
    except (ValueError, OSError) as error:
        outcome = Outcome(problem=problem_line(error))
    if outcome.problem:
        outcome = Outcome(problem=f"{outcome.problem} (on node {node})")
    return Report(node_id, node, outcome)


def load_on_node(
    model: Path, digest: str, options: ScoringOptions, threads: int, content: list[Any], version: str
) -> str:
    """Load a model as `score_on_node` does; what was wrong in one line, or ""."""
    try:
        _check_version(version)
        Segmenter(model_on_node(model, digest, content), options.engine, threads, options.precision).close()
    except (ValueError, OSError, EngineError) as error:
        return f"{problem_line(error)} (on node {socket.gethostname()})"
    return ""


def model_on_node(path: Path, digest: str, content: list[Any]) -> Path:
    """Where this node has the model: at the driver's path if that has the same content, else a copy under its SHA-256.

    Raises:
        OSError: the copy cannot be written.
    """
    if _holds(path, digest):
        return path
    kept = _folder() / f"{digest}.onnx"
    if not _holds(kept, digest):
        import ray

        beside = kept.with_name(f".{kept.name}.{os.getpid()}.part")
        beside.write_bytes(ray.get(content[0]))
        beside.replace(kept)
    return kept


def _holds(path: Path, digest: str) -> bool:
    try:
        return model_digest(path) == digest
    except OSError:
        return False


def _folder() -> Path:
    """This user's own; nobody else can put a file in."""
    folder = Path(tempfile.gettempdir(), f"seg_perception_models_{getpass.getuser()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022:
        raise PermissionError(f"{folder} is another user's or open to others; expected a folder of this user alone")
    return folder


def _check_version(version: str) -> None:
    if seg_perception.__version__ != version:
        raise ValueError(
            f"the node has seg_perception {seg_perception.__version__}, the driver {version}; install the same on all nodes"
        )
