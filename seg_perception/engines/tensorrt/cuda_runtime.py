"""`Cuda` by cuda-python: the one file that calls it."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

from seg_perception.engines.base import EngineError, last_line
from seg_perception.engines.tensorrt.cuda import Argument, CudaError, DeviceProperties

INSTALL_HINT = "install it with `pip install cuda-python` (its major version that of the driver's CUDA, or older)"
_NO_DEVICE = {35, 100}  # cudaErrorInsufficientDriver, cudaErrorNoDevice


class CudaRuntime:
    """`Cuda` by cuda-python's bindings of the runtime; kernels by those of the driver, which have known libraries since 12.0.

    Args:
        bindings: the module `cuda.bindings.runtime`.
        driver: the module `cuda.bindings.driver`.
    """

    def __init__(self, bindings: Any, driver: Any) -> None:
        self._cuda: Any = bindings
        self._driver: Any = driver

    @classmethod
    def load(cls) -> CudaRuntime:
        """Raises EngineError where cuda-python is not installed."""
        try:
            from cuda.bindings import driver
            from cuda.bindings import runtime as bindings
        except (ImportError, OSError) as error:
            raise EngineError(f"engine tensorrt needs cuda-python: {last_line(error)}; {INSTALL_HINT}") from error
        return _the_one(bindings, driver)

    def _checked(self, call: str, result: tuple[Any, ...]) -> Any:
        code = int(result[0])
        if code:
            raise CudaError(call, code, self._text(result[0]))
        return result[1] if len(result) == 2 else result[1:]

    def _text(self, error: Any) -> str:
        code, text = self._cuda.cudaGetErrorString(error)
        return text.decode() if int(code) == 0 and isinstance(text, bytes) else str(error)

    def device_count(self) -> int:
        code, count = self._cuda.cudaGetDeviceCount()
        return count if int(code) == 0 else 0

    def why_no_device(self) -> str:
        code, count = self._cuda.cudaGetDeviceCount()
        if int(code) == 0 and count:
            return ""
        text = self._text(code) if int(code) else "there is none"
        if int(code) not in _NO_DEVICE | {0}:
            return f"{text} (error {int(code)})"
        driver, needed = self.driver_version(), self.runtime_version()
        if driver == 0:
            return "no NVIDIA driver is loaded; install it, and see that nvidia-smi works (Jetson: tegrastats)"
        if driver < needed:
            return (
                f"the driver is for CUDA {_version(driver)}, cuda-python for {_version(needed)}; update the driver, or "
                f"`pip install 'cuda-python<{driver // 1000 + 1}'`"
            )
        return f"no NVIDIA GPU can be used: {text}"

    def driver_version(self) -> int:
        code, version = self._cuda.cudaDriverGetVersion()
        return version if int(code) == 0 else 0

    def runtime_version(self) -> int:
        code, version = self._cuda.cudaRuntimeGetVersion()
        return version if int(code) == 0 else 0

    def device(self, index: int) -> DeviceProperties:
        found = self._checked("cudaGetDeviceProperties", self._cuda.cudaGetDeviceProperties(index))
        return DeviceProperties(
            name=found.name.split(b"\0")[0].decode(errors="replace"),
            compute_capability=(found.major, found.minor),
            integrated=bool(found.integrated),
            total_memory=int(found.totalGlobalMem),
            multiprocessors=found.multiProcessorCount,
        )

    def set_device(self, index: int) -> None:
        self._checked("cudaSetDevice", self._cuda.cudaSetDevice(index))

    def memory(self) -> tuple[int, int]:
        free, total = self._checked("cudaMemGetInfo", self._cuda.cudaMemGetInfo())
        return int(free), int(total)

    def malloc(self, nbytes: int) -> int:
        return int(self._checked("cudaMalloc", self._cuda.cudaMalloc(nbytes)))

    def free(self, pointer: int) -> None:
        self._checked("cudaFree", self._cuda.cudaFree(pointer))

    def host_alloc(self, nbytes: int, mapped: bool) -> int:
        flags = self._cuda.cudaHostAllocMapped if mapped else self._cuda.cudaHostAllocDefault
        return int(self._checked("cudaHostAlloc", self._cuda.cudaHostAlloc(nbytes, flags)))

    def host_free(self, pointer: int) -> None:
        self._checked("cudaFreeHost", self._cuda.cudaFreeHost(pointer))

    def host_device_pointer(self, pointer: int) -> int:
        return int(self._checked("cudaHostGetDevicePointer", self._cuda.cudaHostGetDevicePointer(pointer, 0)))

    def stream_create(self) -> int:
        flags = self._cuda.cudaStreamNonBlocking
        return int(self._checked("cudaStreamCreateWithFlags", self._cuda.cudaStreamCreateWithFlags(flags)))

    def stream_destroy(self, stream: int) -> None:
        self._checked("cudaStreamDestroy", self._cuda.cudaStreamDestroy(stream))

    def stream_done(self, stream: int) -> bool:
        result = self._cuda.cudaStreamQuery(stream)
        if result[0] == self._cuda.cudaError_t.cudaErrorNotReady:
            return False
        self._checked("cudaStreamQuery", result)
        return True

    def copy_to_device(self, destination: int, source: int, nbytes: int, stream: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._checked("cudaMemcpyAsync", self._cuda.cudaMemcpyAsync(destination, source, nbytes, kind, stream))

    def copy_to_host(self, destination: int, source: int, nbytes: int, stream: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._checked("cudaMemcpyAsync", self._cuda.cudaMemcpyAsync(destination, source, nbytes, kind, stream))

    def begin_capture(self, stream: int) -> None:
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._checked("cudaStreamBeginCapture", self._cuda.cudaStreamBeginCapture(stream, mode))

    def end_capture(self, stream: int) -> int:
        return int(self._checked("cudaStreamEndCapture", self._cuda.cudaStreamEndCapture(stream)))

    def graph_instantiate(self, graph: int) -> int:
        return int(self._checked("cudaGraphInstantiate", self._cuda.cudaGraphInstantiate(graph, 0)))

    def graph_launch(self, executable: int, stream: int) -> None:
        self._checked("cudaGraphLaunch", self._cuda.cudaGraphLaunch(executable, stream))

    def graph_destroy(self, graph: int) -> None:
        self._checked("cudaGraphDestroy", self._cuda.cudaGraphDestroy(graph))

    def graph_exec_destroy(self, executable: int) -> None:
        self._checked("cudaGraphExecDestroy", self._cuda.cudaGraphExecDestroy(executable))

    def _checked_driver(self, call: str, result: tuple[Any, ...]) -> Any:
        code = int(result[0])  # the numbers of CUresult are those of cudaError_t
        if code:
            _, text = self._driver.cuGetErrorString(result[0])
            raise CudaError(call, code, text.decode() if isinstance(text, bytes) else str(result[0]))
        return result[1] if len(result) == 2 else None

    def library_load(self, code: bytes) -> int:
        result = self._driver.cuLibraryLoadData(code, None, None, 0, None, None, 0)
        return int(self._checked_driver("cuLibraryLoadData", result))

    def library_unload(self, library: int) -> None:
        self._checked_driver("cuLibraryUnload", self._driver.cuLibraryUnload(self._driver.CUlibrary(library)))

    def library_kernel(self, library: int, name: str) -> int:
        result = self._driver.cuLibraryGetKernel(self._driver.CUlibrary(library), name.encode())
        return int(self._checked_driver("cuLibraryGetKernel", result))

    def launch(
        self,
        kernel: int,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Argument],
        stream: int,
    ) -> None:
        # The driver copies the values while this call lasts.
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
        function = self._driver.CUfunction(kernel)
        result = self._driver.cuLaunchKernel(
            function, *grid, *block, 0, self._driver.CUstream(stream), ctypes.addressof(pointers), 0
        )
        self._checked_driver("cuLaunchKernel", result)

    def event_create(self) -> int:
        return int(self._checked("cudaEventCreate", self._cuda.cudaEventCreate()))

    def event_destroy(self, event: int) -> None:
        self._checked("cudaEventDestroy", self._cuda.cudaEventDestroy(event))

    def event_record(self, event: int, stream: int) -> None:
        self._checked("cudaEventRecord", self._cuda.cudaEventRecord(event, stream))

    def event_elapsed_ms(self, start: int, end: int) -> float:
        return float(self._checked("cudaEventElapsedTime", self._cuda.cudaEventElapsedTime(start, end)))


@functools.cache
def _the_one(bindings: Any, driver: Any) -> CudaRuntime:
    """A process has one device library, and what hung in it is known by it."""
    return CudaRuntime(bindings, driver)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
