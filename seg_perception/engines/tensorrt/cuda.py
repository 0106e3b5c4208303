"""The few calls of CUDA that this package makes: what they are, and how they fail.

`CudaRuntime` (cuda_runtime.py) is the real thing. Pointers, streams, events and graphs are plain integers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from seg_perception.engines.base import EngineError

# cudaError_t after which the process's context is lost ("sticky"): every later call fails, only a new process mends it.
# From the CUDA Runtime API, "Data types used by CUDA Runtime": "must be terminated and relaunched"; 999 is "unknown".
STICKY = frozenset({214, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 999})
OUT_OF_MEMORY = 2

Argument = ctypes.c_void_p | ctypes.c_int  # of a kernel


class CudaError(EngineError):
    """A CUDA call failed.

    Attributes:
        call: its name, such as "cudaMalloc".
        code: cudaError_t as a number.
        sticky: whether the process cannot use the device any more.
    """

    def __init__(self, call: str, code: int, text: str) -> None:
        self.call = call
        self.code = code
        self.sticky = code in STICKY
        lost = "; the device is lost to this process, start it again" if self.sticky else ""
        super().__init__(f"{call} failed: {text} (error {code}){lost}")


@dataclass(frozen=True)
class DeviceProperties:
    """A CUDA device. `integrated`: it shares the machine's memory (Jetson). `total_memory` in bytes."""

    name: str
    compute_capability: tuple[int, int]
    integrated: bool
    total_memory: int
    multiprocessors: int


class Cuda(Protocol):
    """What is needed of CUDA. Every call but the first three raises CudaError."""

    def device_count(self) -> int:
        """Devices that can be used; 0 without a driver."""

    def why_no_device(self) -> str:
        """Why `device_count` is 0, in one line; empty where it is not."""

    def driver_version(self) -> int:
        """CUDA version of the driver, 1000 x major + 10 x minor; 0 without one."""

    def runtime_version(self) -> int:
        """CUDA version of the runtime library, in the same form."""

    def device(self, index: int) -> DeviceProperties: ...

    def set_device(self, index: int) -> None:
        """Make it the calling thread's device."""

    def memory(self) -> tuple[int, int]:
        """Device memory: free and all, bytes."""

    def malloc(self, nbytes: int) -> int: ...

    def free(self, pointer: int) -> None: ...

    def host_alloc(self, nbytes: int, mapped: bool) -> int:
        """Pinned host memory; `mapped`: seen by the device, too."""

    def host_free(self, pointer: int) -> None: ...

    def host_device_pointer(self, pointer: int) -> int:
        """Where the device sees mapped host memory."""

    def stream_create(self) -> int:
        """A stream that does not wait for the default stream."""

    def stream_destroy(self, stream: int) -> None: ...

    def stream_done(self, stream: int) -> bool:
        """Whether all work given to the stream is finished."""

    def copy_to_device(self, destination: int, source: int, nbytes: int, stream: int) -> None:
        """From pinned host memory; returns at once."""

    def copy_to_host(self, destination: int, source: int, nbytes: int, stream: int) -> None:
        """To pinned host memory; returns at once."""

    def begin_capture(self, stream: int) -> None:
        """Record what is given to the stream instead of running it; other threads' calls do not disturb it."""

    def end_capture(self, stream: int) -> int:
        """The recorded graph."""

    def graph_instantiate(self, graph: int) -> int: ...

    def graph_launch(self, executable: int, stream: int) -> None: ...

    def graph_destroy(self, graph: int) -> None: ...

    def graph_exec_destroy(self, executable: int) -> None: ...

    def library_load(self, code: bytes) -> int:
        """Machine code (cubin)."""

    def library_unload(self, library: int) -> None: ...

    def library_kernel(self, library: int, name: str) -> int: ...

    def launch(
        self,
        kernel: int,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Argument],
        stream: int,
    ) -> None:
        """`grid` blocks of `block` threads; `arguments` as the kernel declares them."""

    def event_create(self) -> int: ...

    def event_destroy(self, event: int) -> None: ...

    def event_record(self, event: int, stream: int) -> None: ...

    def event_elapsed_ms(self, start: int, end: int) -> float: ...
