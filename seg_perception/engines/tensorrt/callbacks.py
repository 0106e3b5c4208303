"""What TensorRT calls back: its logger and its progress monitor, classes made of the module that is in use."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import tensorrt as trt

logger = logging.getLogger(__name__)

_KEPT_ERRORS = 8
# TensorRT warns of much that nobody can change; its errors come back in an exception.
_LEVELS = {"INTERNAL_ERROR": logging.ERROR, "ERROR": logging.ERROR, "WARNING": logging.DEBUG}


class PhaseObserver(Protocol):
    """Told of the builder's phases; see `progress`. Called from TensorRT's threads."""

    def started(self, phase: str, parent: str, steps: int) -> None: ...

    def stepped(self, phase: str, step: int) -> None: ...

    def finished(self, phase: str) -> None: ...


def make_logger(module: Any, errors: list[str]) -> trt.ILogger:
    """A logger that puts the first errors into `errors`, for whoever clears it, and all but chatter into Python's logging.

    TensorRT keeps the first logger of a process for good, so there is one for each `TensorRt`.
    """

    class KeepingLogger(module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            level = _LEVELS.get(severity.name)
            if level is None:
                return
            line = " ".join(msg.split())
            if level == logging.ERROR and len(errors) < _KEPT_ERRORS:
                errors.append(line)
            logger.debug("%s: %s", module.__name__, line)

    made: trt.ILogger = KeepingLogger()
    return made


def make_monitor(module: Any, observer: PhaseObserver) -> trt.IProgressMonitor:
    """A monitor that hands a build's phases on and never ends it."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            observer.started(phase_name, parent_phase or "", num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            observer.stepped(phase_name, step)
            return True

        def phase_finish(self, phase_name: str) -> None:
            observer.finished(phase_name)

    made: trt.IProgressMonitor = Monitor()
    return made
