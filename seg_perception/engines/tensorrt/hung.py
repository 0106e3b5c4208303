"""Engines whose stream has not come to its end in time. What the device may still write to is neither given back nor destroyed:
both would wait for work that may never end.

They are asked again before another engine is opened: one that has come to its end gives everything back, one that has not
says so, instead of letting the next engine wait behind it. Whatever belongs to them outlives the interpreter, whose end would
destroy it.
"""

from __future__ import annotations

import ctypes
import logging
from typing import Protocol

from seg_perception.engines.base import EngineError
from seg_perception.engines.tensorrt.cuda import Cuda

logger = logging.getLogger(__name__)


class Hung(Protocol):
    """An executor that hung."""

    @property
    def cuda(self) -> Cuda: ...

    def free_if_done(self) -> bool: ...


_kept: list[Hung] = []  # one device, one process: there is nobody else who could know of them


def keep(executor: Hung) -> None:
    """Keep an executor, and with it context, engine and memory."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(executor))
    _kept.append(executor)
    logger.warning("the device memory of an engine that hung stays taken until its work ends, or this process")


def give_back(cuda: Cuda) -> None:
    """Give back what is kept and has come to its end.

    Args:
        cuda: those of this device library alone.

    Raises:
        EngineError: one has not; nothing else should be asked of the device.
    """
    for executor in [kept for kept in _kept if kept.cuda is cuda]:
        if not executor.free_if_done():
            raise EngineError(
                "the GPU has still not come back from an engine that hung; start this process again, and the machine if that "
                "does not help"
            )
        _kept.remove(executor)
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(executor))
