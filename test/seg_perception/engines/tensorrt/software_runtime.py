"""A device in software: CUDA's memory and streams, and TensorRT's runtime, with ONNX Runtime to compute the real result.

Only what runs an engine is replaced; builder and parser are the real TensorRT for RTX's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tensorrt_rtx

from seg_perception.engines.tensorrt.cuda import CudaError
from test.seg_perception.engines.tensorrt.software_cuda import Described

DTYPES = {
    "tensor(uint8)": tensorrt_rtx.DataType.UINT8,
    "tensor(int32)": tensorrt_rtx.DataType.INT32,
    "tensor(float)": tensorrt_rtx.DataType.FLOAT,
    "tensor(float16)": tensorrt_rtx.DataType.HALF,
}


class SoftwareCuda(Described):
    """Memory and streams; `held` is what has not been given back, and `fail` names a call to fail with a code."""

    def __init__(self, integrated: bool = True) -> None:
        super().__init__("Software")
        self.integrated = integrated
        self.held: dict[int, Any] = {}
        self.fail: dict[str, int] = {}
        self.stuck = False

    def device(self, index: int) -> Any:
        found = super().device(index)
        return type(found)(found.name, found.compute_capability, self.integrated, found.total_memory, 16)

    def _may_fail(self, call: str) -> None:
        if call in self.fail:
            raise CudaError(call, self.fail[call], "told to fail")

    def set_device(self, index: int) -> None:
        self._may_fail("cudaSetDevice")

    def _take(self, call: str, nbytes: int) -> int:
        self._may_fail(call)
        memory = ctypes.create_string_buffer(max(nbytes, 1))
        self.held[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def malloc(self, nbytes: int) -> int:
        return self._take("cudaMalloc", nbytes)

    def host_alloc(self, nbytes: int, mapped: bool) -> int:
        return self._take("cudaHostAlloc", nbytes)

    def stream_create(self) -> int:
        return self._take("cudaStreamCreateWithFlags", 1)

    def free(self, pointer: int) -> None:
        del self.held[pointer]

    host_free = stream_destroy = free

    def host_device_pointer(self, pointer: int) -> int:
        assert pointer in self.held
        return pointer

    def stream_done(self, stream: int) -> bool:
        self._may_fail("cudaStreamQuery")
        return not self.stuck

    def copy_to_device(self, destination: int, source: int, nbytes: int, stream: int) -> None:
        self._may_fail("cudaMemcpyAsync")
        assert {destination, source, stream} <= self.held.keys()
        ctypes.memmove(destination, source, nbytes)

    copy_to_host = copy_to_device


class SoftwareTensorRt:
    """The module `tensorrt_rtx` with a runtime that finds an engine's model by `model_of`."""

    __name__ = "tensorrt_rtx"

    def __init__(self, model_of: Callable[[bytes], Path]) -> None:
        self._model_of = model_of
        self.refuse = ""
        self.run_fails = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(tensorrt_rtx, name)

    def Runtime(self, logger: Any) -> SoftwareTensorRt:  # noqa: N802
        self._logger = logger
        return self

    def deserialize_cuda_engine(self, plan: bytes) -> SoftwareEngine | None:
        if self.refuse:
            self._logger.log(tensorrt_rtx.ILogger.Severity.ERROR, self.refuse)
            return None
        return SoftwareEngine(self, self._model_of(plan))

    def log_error(self, text: str) -> None:
        self._logger.log(tensorrt_rtx.ILogger.Severity.ERROR, text)


class SoftwareEngine:
    def __init__(self, module: SoftwareTensorRt, model: Path) -> None:
        self.module = module
        self.session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        self.tensors = {tensor.name: tensor for tensor in [*inputs, *outputs]}
        self.inputs = {tensor.name for tensor in inputs}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = tensorrt_rtx.TensorIOMode
        return modes.INPUT if name in self.inputs else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return DTYPES[self.tensors[name].type]

    def get_tensor_shape(self, name: str) -> Any:
        return tensorrt_rtx.Dims([size if isinstance(size, int) else -1 for size in self.tensors[name].shape])

    def create_runtime_config(self) -> SoftwareRuntimeConfig:
        return SoftwareRuntimeConfig()

    def create_execution_context(self, config: SoftwareRuntimeConfig) -> SoftwareContext:
        return SoftwareContext(self)


class SoftwareRuntimeConfig:
    """Hands out a cache of kernels that takes back what such a cache gave, and nothing else."""

    def create_runtime_cache(self) -> SoftwareRuntimeConfig:
        return self

    def set_runtime_cache(self, cache: SoftwareRuntimeConfig) -> bool:
        return True

    def serialize(self) -> bytes:
        return b"kernels of this driver"

    def deserialize(self, body: bytes) -> bool:
        return body == self.serialize()


class SoftwareContext:
    def __init__(self, engine: SoftwareEngine) -> None:
        self._engine = engine
        self._batch = 0
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._batch = shape[0]
        return True

    def infer_shapes(self) -> list[str]:
        return [] if self._batch else ["image"]

    def get_tensor_shape(self, name: str) -> Any:
        shape = self._engine.get_tensor_shape(name)
        return tensorrt_rtx.Dims([self._batch, *(shape[axis] for axis in range(1, len(shape)))])

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self._addresses[name] = pointer
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if self._engine.module.run_fails:
            self._engine.module.log_error(self._engine.module.run_fails)
            return False
        arrays = {name: self._array(name) for name in self._engine.tensors}
        outputs = [name for name in arrays if name not in self._engine.inputs]
        results = self._engine.session.run(outputs, {name: arrays[name] for name in self._engine.inputs})
        for name, result in zip(outputs, results, strict=True):
            np.copyto(arrays[name], result)
        return True

    def _array(self, name: str) -> np.ndarray:
        shape = self.get_tensor_shape(name)
        size = tuple(shape[axis] for axis in range(len(shape)))
        dtype = np.dtype(tensorrt_rtx.nptype(self._engine.get_tensor_dtype(name)))
        nbytes = int(np.prod(size)) * dtype.itemsize
        memory = (ctypes.c_uint8 * nbytes).from_address(self._addresses[name])
        return np.ctypeslib.as_array(memory).view(dtype).reshape(size)
