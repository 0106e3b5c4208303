"""What a CUDA device in software hands out: memory, streams, graphs, libraries, events."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

GUARD = 64  # bytes behind each piece of memory
GUARD_BYTE = 0xA5
ALIGNMENT = 256  # of what cudaMalloc gives


class BrokenRuleError(AssertionError):
    """The program did what CUDA or TensorRT forbid."""


@dataclass(eq=False)
class Memory:
    """A piece of memory. `device` and `host`: who sees it."""

    nbytes: int
    device: bool
    host: bool
    alive: bool = True
    raw: Any = None

    def __post_init__(self) -> None:
        self.raw = ctypes.create_string_buffer(self.nbytes + GUARD + ALIGNMENT)
        ctypes.memset(self.address + self.nbytes, GUARD_BYTE, GUARD)

    @property
    def address(self) -> int:
        return -(-ctypes.addressof(self.raw) // ALIGNMENT) * ALIGNMENT

    def check_guard(self) -> None:
        if ctypes.string_at(self.address + self.nbytes, GUARD) != bytes([GUARD_BYTE]) * GUARD:
            raise BrokenRuleError(f"[memory] something was written behind {self.nbytes} bytes")


@dataclass(frozen=True)
class Operation:
    """Work for a stream, and the memory that it touches."""

    what: str
    do: Callable[[], None]
    touches: tuple[Memory, ...] = ()


@dataclass(eq=False)
class Stream:
    queue: list[Operation] = field(default_factory=list)
    asked: bool = False  # since the newest work
    capture: list[Operation] | None = None
    capturer: int = 0  # thread
    spoiled: bool = False  # the capture


@dataclass(eq=False)
class Graph:
    operations: list[Operation]


@dataclass(eq=False)
class Executable:
    operations: list[Operation]


@dataclass(eq=False)
class Library:
    code: bytes
    kernel: Any = None


@dataclass(eq=False)
class Event:
    time: float = 0.0
