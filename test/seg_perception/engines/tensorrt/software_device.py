"""A CUDA device in software, strict: it does what the documentation promises, as late as that allows, and refuses the rest.

Work given to a stream is done only when the stream is asked whether it is done, and the first answer is always no; so what is
read too early is old, and what is freed too early is missed. Pointers to device memory cannot be followed by the host. A rule
that is broken is a `BrokenRuleError`, which no code of the product catches as an error of CUDA.

The rules and where they stand (below docs.nvidia.com/cuda/; test_software_device.py breaks each):
  [memory]   cuda-runtime-api/group__CUDART__MEMORY.html: sizes, kinds, cudaFree of what was not allocated, cudaMemcpyAsync
  [async]    cuda-runtime-api/api-sync-behavior.html: copies from and to pageable memory wait for the stream
  [streams]  cuda-runtime-api/group__CUDART__STREAM.html: cudaStreamQuery, cudaStreamBeginCapture, cudaStreamEndCapture
  [capture]  cuda-c-programming-guide/#prohibited-and-unhandled-operations: nothing synchronising, no other thread's work
  [unsafe]   cuda-runtime-api/group__CUDART__STREAM.html, cudaThreadExchangeStreamCaptureMode: cudaMalloc and its like by the
             capturing thread
  [graphs]   cuda-c-programming-guide/#creating-a-graph-using-stream-capture, cuda-runtime-api/group__CUDART__GRAPH.html: a graph
             has the addresses it was captured with, and is not destroyed while it runs
  [events]   cuda-runtime-api/group__CUDART__EVENT.html: cudaEventElapsedTime
  [sticky]   cuda-runtime-api/group__CUDART__TYPES.html, cudaError: errors after which the process must be relaunched
  [launch]   cuda-driver-api/group__CUDA__EXEC.html, cuLaunchKernel; group__CUDA__LIBRARY.html, cuLibraryLoadData
  [tegra]    cuda-for-tegra-appnote/#memory-selection: pinned memory that the device sees
There is no copy that waits among the calls (`Cuda`), so none can be made during a capture.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from seg_perception.engines.tensorrt.cuda import STICKY, CudaError, DeviceProperties
from test.seg_perception.engines.tensorrt.software_cuda import Described
from test.seg_perception.engines.tensorrt.software_memory import (
    BrokenRuleError,
    Event,
    Executable,
    Graph,
    Library,
    Memory,
    Operation,
    Stream,
)

DEVICE_SPACE = 1 << 56  # added to addresses of the device: the host that follows one is killed
TOTAL_MEMORY = 8 << 30


class SoftwareCuda(Described):
    """The device.

    Attributes:
        integrated: whether it is one of a Jetson.
        held: what has not been given back, by handle.
        calls: the names of all calls that can fail, in order.
        fail: names of calls that fail, with the code.
        fail_once: the number of one call that fails, counted as in `calls`, with the code.
        stuck: whether no stream is ever done.
        capturable: whether kernels of TensorRT can be captured.
        graph_launches: how many graphs were run.

    Args:
        kernel_of: what a library of machine code computes; see `launch`.
    """

    def __init__(
        self,
        integrated: bool = True,
        kernel_of: Callable[[bytes], Callable[..., tuple[Callable[[], None], tuple[Memory, ...]]]] | None = None,
    ) -> None:
        super().__init__("Software")
        self.integrated = integrated
        self.held: dict[int, Any] = {}
        self.calls: list[str] = []
        self.fail: dict[str, int] = {}
        self.fail_once: tuple[int, int] | None = None
        self.stuck = False
        self.capturable = True
        self.graph_launches = 0
        self._kernel_of = kernel_of
        self._handles = itertools.count(1 << 20)
        self._lost = 0

    # Bookkeeping

    def _call(self, name: str, unsafe: bool = False) -> None:
        """Every call comes through here. `unsafe`: the capturing thread may not make it."""
        number = len(self.calls)
        self.calls.append(name)
        code = self._lost or self.fail.get(name, 0)
        if self.fail_once is not None and self.fail_once[0] == number:
            code = code or self.fail_once[1]
        if code:
            if code in STICKY:
                self._lost = code  # [sticky] every later call fails, too, and nothing runs any more
                for stream in self._streams():
                    stream.queue.clear()
            for stream in self._streams():
                if stream.capture is not None:
                    stream.spoiled = True
            raise CudaError(name, code, "told to fail")
        if unsafe and any(s.capture is not None and s.capturer == threading.get_ident() for s in self._streams()):
            raise BrokenRuleError(f"[unsafe] {name} while this thread captures a stream")

    def _streams(self) -> list[Stream]:
        return [thing for thing in list(self.held.values()) if isinstance(thing, Stream)]

    def _hold(self, thing: Any, handle: int = 0) -> int:
        handle = handle or next(self._handles)
        self.held[handle] = thing
        return handle

    def _thing(self, handle: int, kind: type) -> Any:
        thing = self.held.get(handle)
        if not isinstance(thing, kind):
            raise BrokenRuleError(f"[memory] {handle:#x} is no {kind.__name__} that exists")
        return thing

    def memory_at(self, pointer: int, nbytes: int, on_device: bool) -> Memory:
        """The memory that holds a range."""
        address = pointer - DEVICE_SPACE if on_device else pointer
        for piece in self.held.values():
            if isinstance(piece, Memory) and piece.address <= address < piece.address + max(piece.nbytes, 1):
                side = "device" if on_device else "host"
                if not (piece.device if on_device else piece.host):
                    raise BrokenRuleError(f"[memory] {pointer:#x} is not {side} memory")
                if address + nbytes > piece.address + piece.nbytes:
                    raise BrokenRuleError(f"[memory] {nbytes} bytes at {pointer:#x}, of which {piece.nbytes} are there")
                return piece
        kind = "device memory" if on_device else "pinned host memory"
        raise BrokenRuleError(f"[async] {pointer:#x} is no {kind} that was taken and not given back")

    def enqueue(self, stream: int, operation: Operation) -> None:
        """Give work to a stream, or record it where that is captured."""
        found: Stream = self._thing(stream, Stream)
        if found.capture is None:
            found.queue.append(operation)
            found.asked = False
        elif found.capturer != threading.get_ident():
            raise BrokenRuleError(f"[capture] {operation.what} from another thread on a stream that is captured")
        else:
            found.capture.append(operation)

    def is_capturing(self, stream: int) -> bool:
        return self._thing(stream, Stream).capture is not None

    @property
    def working(self) -> bool:
        """Whether any stream has work to do."""
        return any(stream.queue for stream in self._streams())

    # The device

    def device(self, index: int) -> DeviceProperties:
        return DeviceProperties("Software", (8, 7), self.integrated, TOTAL_MEMORY, 16)

    def runtime_version(self) -> int:
        return self.driver_version()

    def set_device(self, index: int) -> None:
        self._call("cudaSetDevice")
        if index:
            raise BrokenRuleError(f"[memory] there is no device {index}")

    def memory(self) -> tuple[int, int]:
        self._call("cudaMemGetInfo")
        taken = sum(piece.nbytes for piece in list(self.held.values()) if isinstance(piece, Memory))
        return TOTAL_MEMORY - taken, TOTAL_MEMORY

    # Memory

    def malloc(self, nbytes: int) -> int:
        self._call("cudaMalloc", unsafe=True)
        piece = Memory(nbytes, device=True, host=False)
        return self._hold(piece, piece.address + DEVICE_SPACE)

    def free(self, pointer: int) -> None:
        self._give_back("cudaFree", pointer, on_device=True)

    def host_alloc(self, nbytes: int, mapped: bool) -> int:
        self._call("cudaHostAlloc", unsafe=True)
        piece = Memory(nbytes, device=mapped, host=True)
        return self._hold(piece, piece.address)

    def host_free(self, pointer: int) -> None:
        self._give_back("cudaFreeHost", pointer, on_device=False)

    def _give_back(self, call: str, pointer: int, on_device: bool) -> None:
        self._call(call, unsafe=True)
        piece: Memory = self._thing(pointer, Memory)
        if piece.host == on_device:
            raise BrokenRuleError(f"[memory] {call} of the other kind of memory")
        if any(piece in operation.touches for stream in self._streams() for operation in stream.queue):
            raise BrokenRuleError(f"[memory] {call} of memory that a stream still works on")
        piece.check_guard()
        piece.alive = False
        del self.held[pointer]

    def host_device_pointer(self, pointer: int) -> int:
        self._call("cudaHostGetDevicePointer")
        if not self._thing(pointer, Memory).device:
            raise BrokenRuleError("[tegra] this pinned memory was not taken as mapped")
        return pointer + DEVICE_SPACE

    def copy_to_device(self, destination: int, source: int, nbytes: int, stream: int) -> None:
        self._copy(destination, True, source, False, nbytes, stream)

    def copy_to_host(self, destination: int, source: int, nbytes: int, stream: int) -> None:
        self._copy(destination, False, source, True, nbytes, stream)

    def _copy(self, to: int, to_device: bool, source: int, from_device: bool, nbytes: int, stream: int) -> None:
        self._call("cudaMemcpyAsync")
        pieces = (self.memory_at(to, nbytes, to_device), self.memory_at(source, nbytes, from_device))
        addresses = (to - DEVICE_SPACE * to_device, source - DEVICE_SPACE * from_device)
        self.enqueue(stream, Operation("a copy", lambda: ctypes.memmove(*addresses, nbytes), pieces))

    # Streams

    def stream_create(self) -> int:
        self._call("cudaStreamCreateWithFlags")
        return self._hold(Stream())

    def stream_destroy(self, stream: int) -> None:
        self._call("cudaStreamDestroy")
        if self._thing(stream, Stream).queue:
            raise BrokenRuleError("[streams] destroyed with work in it: nobody will know when its memory is free")
        del self.held[stream]

    def stream_done(self, stream: int) -> bool:
        self._call("cudaStreamQuery")
        found: Stream = self._thing(stream, Stream)
        if found.capture is not None:
            raise BrokenRuleError("[streams] cudaStreamQuery of a stream that is captured")
        if self.stuck or not found.asked:
            found.asked = True
            return False
        while found.queue:
            operation = found.queue[0]
            if not all(piece.alive for piece in operation.touches):
                raise BrokenRuleError(f"[graphs] {operation.what} on memory that was given back")
            operation.do()
            for piece in operation.touches:
                piece.check_guard()
            found.queue.pop(0)
        return True

    # Graphs

    def begin_capture(self, stream: int) -> None:
        self._call("cudaStreamBeginCapture")
        found: Stream = self._thing(stream, Stream)
        if found.capture is not None:
            raise BrokenRuleError("[streams] the stream is captured already")
        found.capture, found.capturer, found.spoiled = [], threading.get_ident(), False

    def end_capture(self, stream: int) -> int:
        found: Stream = self._thing(stream, Stream)
        if found.capture is None:
            raise BrokenRuleError("[streams] the stream is not captured")
        if found.capturer != threading.get_ident():
            raise BrokenRuleError("[streams] the capture is ended by another thread than began it")
        operations, found.capture = found.capture, None
        spoiled, found.spoiled = found.spoiled, False
        self._call("cudaStreamEndCapture")
        if spoiled:
            raise CudaError("cudaStreamEndCapture", 901, "operation failed due to a previous error during capture")
        return self._hold(Graph(operations))

    def spoil_capture(self, stream: int) -> None:
        """What is asked of the stream cannot be captured."""
        self._thing(stream, Stream).spoiled = True

    def graph_instantiate(self, graph: int) -> int:
        self._call("cudaGraphInstantiate")
        return self._hold(Executable(list(self._thing(graph, Graph).operations)))

    def graph_launch(self, executable: int, stream: int) -> None:
        self._call("cudaGraphLaunch")
        self.graph_launches += 1
        for operation in self._thing(executable, Executable).operations:
            self.enqueue(stream, operation)

    def graph_destroy(self, graph: int) -> None:
        self._call("cudaGraphDestroy")
        self._thing(graph, Graph)
        del self.held[graph]

    def graph_exec_destroy(self, executable: int) -> None:
        self._call("cudaGraphExecDestroy")
        self._thing(executable, Executable)
        if self.working:
            raise BrokenRuleError("[graphs] destroyed while it may be running")
        del self.held[executable]

    # Kernels

    def library_load(self, code: bytes) -> int:
        self._call("cuLibraryLoadData", unsafe=True)
        if code[:4] != b"\x7fELF":
            raise BrokenRuleError("[launch] this is no machine code")
        return self._hold(Library(code))

    def library_unload(self, library: int) -> None:
        self._call("cuLibraryUnload", unsafe=True)
        self._thing(library, Library)
        if self.working:
            raise BrokenRuleError("[launch] unloaded while a kernel of it may be running")
        del self.held[library]

    def library_kernel(self, library: int, name: str) -> int:
        self._call("cuLibraryGetKernel")
        found: Library = self._thing(library, Library)
        if name.encode() not in found.code:
            raise CudaError("cuLibraryGetKernel", 500, "named symbol not found")
        assert self._kernel_of is not None
        found.kernel = self._kernel_of(found.code)
        return library + DEVICE_SPACE

    def launch(
        self,
        kernel: int,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Any],
        stream: int,
    ) -> None:
        """A kernel here takes device, grid, block and arguments, and gives the work to do and the memory that it touches."""
        self._call("cuLaunchKernel")
        library: Library = self._thing(kernel - DEVICE_SPACE, Library)
        if min(*grid, *block) < 1 or block[0] * block[1] * block[2] > 1024 or max(grid[1:]) > 65535:
            raise BrokenRuleError(f"[launch] {grid} blocks of {block} threads")
        do, touches = library.kernel(self, grid, block, [argument.value for argument in arguments])
        self.enqueue(stream, Operation("a kernel", do, touches))

    # Events

    def event_create(self) -> int:
        self._call("cudaEventCreate")
        return self._hold(Event())

    def event_destroy(self, event: int) -> None:
        self._call("cudaEventDestroy")
        self._thing(event, Event)
        del self.held[event]

    def event_record(self, event: int, stream: int) -> None:
        self._call("cudaEventRecord")
        found: Event = self._thing(event, Event)
        found.time = 0.0

        def note() -> None:
            found.time = time.perf_counter()

        self.enqueue(stream, Operation("an event", note))

    def event_elapsed_ms(self, start: int, end: int) -> float:
        self._call("cudaEventElapsedTime")
        times = [self._thing(event, Event).time for event in (start, end)]
        if not all(times):
            raise BrokenRuleError("[events] the time between events that have not happened")
        return 1e3 * (times[1] - times[0])
