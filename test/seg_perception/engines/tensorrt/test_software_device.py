"""The device in software is strict: each of its rules is broken here, and says so."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seg_perception.engines.tensorrt.cuda import CudaError
from test.seg_perception.engines.tensorrt.software_device import SoftwareCuda
from test.seg_perception.engines.tensorrt.software_memory import BrokenRuleError, Memory

ELF = b"\x7fELF and the kernel paint"


class Device(SoftwareCuda):
    """With a stream, 64 bytes on the device, 64 pinned ones and a kernel that touches the first."""

    def __init__(self) -> None:
        super().__init__(integrated=False, kernel_of=lambda code: self._launched)
        self.stream = self.stream_create()
        self.there = self.malloc(64)
        self.pinned = self.host_alloc(64, False)
        self.library = self.library_load(ELF)
        self.kernel = self.library_kernel(self.library, "paint")

    def _launched(
        self, cuda: SoftwareCuda, grid: Any, block: Any, arguments: list[int]
    ) -> tuple[Callable[[], None], tuple[Memory, ...]]:
        return lambda: None, (cuda.memory_at(arguments[0], 64, True),)

    def work(self, nbytes: int = 64) -> None:
        self.copy_to_device(self.there, self.pinned, nbytes, self.stream)

    def paint(self, where: int, block: int = 32) -> None:
        self.launch(self.kernel, (1, 1, 1), (block, 1, 1), [ctypes.c_void_p(where)], self.stream)

    def finish(self) -> None:
        while not self.stream_done(self.stream):
            pass

    def recorded(self) -> int:
        """A graph of one copy, ready to run."""
        self.begin_capture(self.stream)
        self.work()
        return self.graph_instantiate(self.end_capture(self.stream))


def elsewhere(act: Callable[[], object]) -> None:
    """In another thread; what that raises is raised here."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def twice_freed(cuda: Device) -> None:
    cuda.free(cuda.there)
    cuda.free(cuda.there)


def freed_at_work(cuda: Device) -> None:
    cuda.work()
    cuda.host_free(cuda.pinned)


def written_behind(cuda: Device) -> None:
    ctypes.memset(cuda.pinned + 64, 0, 1)
    cuda.host_free(cuda.pinned)


def used_after_free(cuda: Device) -> None:
    cuda.free(cuda.there)
    cuda.work()


def pageable(cuda: Device) -> None:
    memory = np.zeros(64, np.uint8)
    cuda.copy_to_device(cuda.there, memory.ctypes.data, 64, cuda.stream)


def destroyed_at_work(cuda: Device) -> None:
    cuda.work()
    cuda.stream_destroy(cuda.stream)


def captured(act: Callable[[Device], object]) -> Callable[[Device], None]:
    """While the stream is captured."""

    def run(cuda: Device) -> None:
        cuda.begin_capture(cuda.stream)
        act(cuda)

    return run


def graph_on_freed_memory(cuda: Device) -> None:
    graph = cuda.recorded()
    cuda.free(cuda.there)
    cuda.graph_launch(graph, cuda.stream)
    cuda.finish()


def graph_destroyed_at_work(cuda: Device) -> None:
    graph = cuda.recorded()
    cuda.graph_launch(graph, cuda.stream)
    cuda.graph_exec_destroy(graph)


def unloaded_at_work(cuda: Device) -> None:
    cuda.paint(cuda.there)
    cuda.library_unload(cuda.library)


def kernel_of_what_is_unloaded(cuda: Device) -> None:
    cuda.library_unload(cuda.library)
    cuda.paint(cuda.there)


def time_of_what_has_not_happened(cuda: Device) -> None:
    events = [cuda.event_create() for _ in range(2)]
    for event in events:
        cuda.event_record(event, cuda.stream)
    cuda.event_elapsed_ms(*events)


BROKEN: dict[str, tuple[Callable[[Device], object], str]] = {
    "freed twice": (twice_freed, r"\[memory\] .* is no Memory that exists"),
    "freed by another address": (lambda c: c.free(c.there + 8), r"\[memory\] .* is no Memory that exists"),
    "pinned freed as device memory": (lambda c: c.free(c.pinned), r"\[memory\] cudaFree of the other kind of memory"),
    "device memory freed as pinned": (lambda c: c.host_free(c.there), r"\[memory\] cudaFreeHost of the other kind"),
    "freed while a stream works on it": (
        freed_at_work,
        r"\[memory\] cudaFreeHost of memory that a stream still works on",
    ),
    "written behind its end": (written_behind, r"\[memory\] something was written behind 64 bytes"),
    "used after free": (used_after_free, r"\[async\] .* is no device memory that was taken and not given back"),
    "copied beyond its end": (lambda c: c.work(65), r"\[memory\] 65 bytes at .*, of which 64 are there"),
    "a host pointer as the device's": (
        lambda c: c.copy_to_host(c.pinned, c.pinned, 64, c.stream),
        r"\[async\] .* is no device memory",
    ),
    "a device pointer as the host's": (
        lambda c: c.copy_to_device(c.there, c.there, 64, c.stream),
        r"\[async\] .* is no pinned host memory",
    ),
    "pageable memory": (pageable, r"\[async\] .* is no pinned host memory"),
    "memory that is not mapped": (lambda c: c.host_device_pointer(c.pinned), r"\[tegra\] .* not taken as mapped"),
    "a stream destroyed at work": (destroyed_at_work, r"\[streams\] destroyed with work in it"),
    "a stream that is none": (lambda c: c.stream_done(c.there), r"is no Stream that exists"),
    "captured twice": (captured(lambda c: c.begin_capture(c.stream)), r"\[streams\] the stream is captured already"),
    "not captured": (lambda c: c.end_capture(c.stream), r"\[streams\] the stream is not captured"),
    "ended by another thread": (
        captured(lambda c: elsewhere(lambda: c.end_capture(c.stream))),
        r"\[streams\] the capture is ended by another thread",
    ),
    "asked during a capture": (
        captured(lambda c: c.stream_done(c.stream)),
        r"\[streams\] cudaStreamQuery of a stream that is captured",
    ),
    "another thread's work in a capture": (
        captured(lambda c: elsewhere(c.work)),
        r"\[capture\] a copy from another thread on a stream that is captured",
    ),
    "device memory in a capture": (
        captured(lambda c: c.malloc(1)),
        r"\[unsafe\] cudaMalloc while this thread captures",
    ),
    "pinned memory in a capture": (captured(lambda c: c.host_alloc(1, True)), r"\[unsafe\] cudaHostAlloc while"),
    "a free in a capture": (captured(lambda c: c.free(c.there)), r"\[unsafe\] cudaFree while"),
    "machine code in a capture": (captured(lambda c: c.library_load(ELF)), r"\[unsafe\] cuLibraryLoadData while"),
    "pageable memory in a capture": (captured(pageable), r"\[async\] .* is no pinned host memory"),
    "a graph on freed memory": (graph_on_freed_memory, r"\[graphs\] a copy on memory that was given back"),
    "a graph destroyed at work": (graph_destroyed_at_work, r"\[graphs\] destroyed while it may be running"),
    "no machine code": (lambda c: c.library_load(b"text"), r"\[launch\] this is no machine code"),
    "too many threads": (lambda c: c.paint(c.there, block=1025), r"\[launch\] .* blocks of \(1025, 1, 1\) threads"),
    "a kernel on host memory": (lambda c: c.paint(c.pinned), r"is no device memory"),
    "a kernel beyond its memory": (lambda c: c.paint(c.there + 8), r"\[memory\] 64 bytes at .*, of which 64 are there"),
    "unloaded at work": (unloaded_at_work, r"\[launch\] unloaded while a kernel of it may be running"),
    "a kernel of what is unloaded": (kernel_of_what_is_unloaded, r"is no Library that exists"),
    "events that have not happened": (
        time_of_what_has_not_happened,
        r"\[events\] the time between events that have not",
    ),
    "another device": (lambda c: c.set_device(1), r"\[memory\] there is no device 1"),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_what_cuda_forbids_is_refused(rule: str) -> None:
    broken, said = BROKEN[rule]
    with pytest.raises(BrokenRuleError, match=said):
        broken(Device())


def test_what_cuda_allows_works_as_late_as_it_may() -> None:
    cuda = Device()
    ctypes.memset(cuda.pinned, 7, 64)
    back = cuda.host_alloc(64, False)
    graph = cuda.recorded()
    cuda.graph_launch(graph, cuda.stream)
    cuda.copy_to_host(back, cuda.there, 64, cuda.stream)
    assert ctypes.string_at(back, 64) != bytes([7]) * 64  # nothing happens before it is asked for
    cuda.finish()
    assert ctypes.string_at(back, 64) == bytes([7]) * 64
    free = cuda.memory()[0]
    cuda.host_free(back)
    assert cuda.memory()[0] == free + 64
    assert [type(thing).__name__ for thing in cuda.held.values()].count(
        "Memory"
    ) == 2  # what is not given back is known


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaMemcpyAsync", "cudaStreamQuery", "cuLaunchKernel"])
def test_any_call_can_be_told_to_fail_once_or_for_good(call: str) -> None:
    cuda = Device()

    def everything() -> None:
        cuda.malloc(1)
        cuda.work()
        cuda.paint(cuda.there)
        cuda.finish()

    everything()
    cuda.fail[call] = 2
    with pytest.raises(CudaError, match=rf"{call} failed: told to fail \(error 2\)"):
        everything()
    cuda.fail.clear()
    cuda.finish()
    cuda.fail_once = (len(cuda.calls), 2)
    with pytest.raises(CudaError, match="cudaMalloc failed"):
        everything()
    everything()


def test_after_a_sticky_error_every_call_fails() -> None:
    cuda = Device()
    cuda.fail_once = (len(cuda.calls), 700)
    with pytest.raises(CudaError):
        cuda.work()
    for call in (
        lambda: cuda.malloc(1),
        lambda: cuda.free(cuda.there),
        lambda: cuda.stream_done(cuda.stream),
        cuda.memory,
    ):
        with pytest.raises(CudaError, match="the device is lost to this process"):
            call()
