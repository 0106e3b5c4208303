"""TensorRT's runtime in software, strict, with ONNX Runtime to compute the real result on the device in software.

Only what runs an engine is replaced; builder and parser are the real TensorRT for RTX's.

The rules and where they stand (docs.nvidia.com/deeplearning/tensorrt; test_software_runtime.py breaks each):
  [shapes]     developer guide, "Working with Dynamic Shapes": input shapes are set before enqueueV3, inside the profile
  [addresses]  API, IExecutionContext::setTensorAddress: device memory for every tensor, as large as the engine says
  [threads]    developer guide, "Threading": a context is used by one thread at a time
  [lifetime]   developer guide, "The Runtime Phase", "Object Lifetimes": an engine outlives its contexts; what a context works on
               is in use until the stream is done
  [capture]    developer guide, "CUDA Graphs": a context runs once at its shapes before it is captured; a graph is of the context
               as it was then, and must not run after that was changed
  [working]    API, IExecutionContext::setDeviceMemoryV2, ExecutionContextAllocationStrategy: a context without memory of its own
               is given some before it runs, 256-byte aligned and as large as the engine says; it is in use while it runs
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tensorrt_rtx

from test.seg_perception.engines.tensorrt.software_device import DEVICE_SPACE, SoftwareCuda
from test.seg_perception.engines.tensorrt.software_memory import ALIGNMENT, BrokenRuleError, Operation

DTYPES = {
    "tensor(uint8)": tensorrt_rtx.DataType.UINT8,
    "tensor(int32)": tensorrt_rtx.DataType.INT32,
    "tensor(float)": tensorrt_rtx.DataType.FLOAT,
    "tensor(float16)": tensorrt_rtx.DataType.HALF,
}


CONTEXT_MEMORY = 1000  # bytes that every context works in


class SoftwareTensorRt:
    """The module `tensorrt_rtx` with a runtime that finds an engine's model by `model_of`.

    Attributes:
        refuse: why no engine can be loaded; empty: they can.
        run_fails: why contexts do not run; empty: they do.
        no_context: why no context can be made; empty: they can.
        destroyed_at_work: contexts that were destroyed while their stream had work to do.
        contexts: that exist.
    """

    __name__ = "tensorrt_rtx"

    def __init__(self, cuda: SoftwareCuda, model_of: Callable[[bytes], Path]) -> None:
        self.cuda = cuda
        self._model_of = model_of
        self.refuse = ""
        self.run_fails = ""
        self.no_context = ""
        self.destroyed_at_work = 0
        self.contexts: weakref.WeakSet[SoftwareContext] = weakref.WeakSet()

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
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        self.tensors = {tensor.name: tensor for tensor in [*inputs, *outputs]}
        self.inputs = {tensor.name for tensor in inputs}
        self.num_io_tensors = len(self.tensors)
        self.device_memory_size_v2 = CONTEXT_MEMORY

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

    def create_execution_context(self, config: SoftwareRuntimeConfig) -> SoftwareContext | None:
        if self.module.no_context:
            self.module.log_error(self.module.no_context)
            return None
        return SoftwareContext(self, config.strategy == tensorrt_rtx.ExecutionContextAllocationStrategy.STATIC)


class SoftwareRuntimeConfig:
    """Hands out a cache of kernels that takes back what such a cache gave, and nothing else."""

    strategy = tensorrt_rtx.ExecutionContextAllocationStrategy.STATIC

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> SoftwareRuntimeConfig:
        return self

    def set_runtime_cache(self, cache: SoftwareRuntimeConfig) -> bool:
        return True

    def serialize(self) -> bytes:
        return b"kernels of this driver"

    def deserialize(self, body: bytes) -> bool:
        return body == self.serialize()


class SoftwareContext:
    def __init__(self, engine: SoftwareEngine, own_memory: bool) -> None:
        self._engine = weakref.ref(engine)  # the program keeps it, or the context has none
        self._own_memory = own_memory
        self._memory: tuple[int, int] | None = None
        self._changes = [0]  # of what a captured graph depends on; work in a stream knows these, not the context
        self._module = engine.module
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._ran: dict[str, tuple[int, ...]] | None = None  # at which shapes
        self._used = threading.Lock()
        self._stream = 0
        self._module.contexts.add(self)

    def __del__(self) -> None:
        self._changes[0] += 1
        if self._module.cuda.working:
            self._module.destroyed_at_work += 1

    @property
    def engine(self) -> SoftwareEngine:
        engine = self._engine()
        if engine is None:
            raise BrokenRuleError("[lifetime] the engine is gone, its context is used")
        return engine

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        declared = self.engine.tensors[name].shape
        if len(shape) != len(declared) or any(
            isinstance(wanted, int) and came != wanted for came, wanted in zip(shape, declared, strict=True)
        ):
            self._module.log_error(f"IExecutionContext::setInputShape: {name} does not take {shape}")
            return False
        self._shapes[name] = tuple(shape)
        self._changes[0] += 1
        return True

    def infer_shapes(self) -> list[str]:
        return sorted(self.engine.inputs - self._shapes.keys())

    def get_tensor_shape(self, name: str) -> Any:
        if self.infer_shapes():
            raise BrokenRuleError(f"[shapes] {name} is asked for before all input shapes are set")
        if name in self._shapes:
            return tensorrt_rtx.Dims(list(self._shapes[name]))
        batch = self._shapes["image"][0]
        return tensorrt_rtx.Dims([batch if not isinstance(s, int) else s for s in self.engine.tensors[name].shape])

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        if name not in self.engine.tensors:
            raise BrokenRuleError(f"[addresses] the engine has no tensor {name}")
        self._addresses[name] = pointer
        self._changes[0] += 1
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        if self._own_memory:
            raise BrokenRuleError("[working] a context that has its own memory is given some")
        if size < self.engine.device_memory_size_v2:
            raise BrokenRuleError(f"[working] {size} bytes to work in, expected {self.engine.device_memory_size_v2}")
        if memory % ALIGNMENT:
            raise BrokenRuleError(f"[working] memory at {memory:#x} is not aligned to {ALIGNMENT} bytes")
        self._memory = (memory, size)
        self._changes[0] += 1

    def is_stream_capturable(self, stream: int) -> bool:
        return self._module.cuda.capturable

    def execute_async_v3(self, stream: int) -> bool:
        if not self._used.acquire(blocking=False):
            raise BrokenRuleError("[threads] the context is used by two threads at once")
        try:
            return self._execute(stream)
        finally:
            self._used.release()

    def _execute(self, stream: int) -> bool:
        cuda = self._module.cuda
        if self._module.run_fails:
            self._module.log_error(self._module.run_fails)
            return False
        if self.infer_shapes():
            raise BrokenRuleError(f"[shapes] enqueueV3 without the shapes of {self.infer_shapes()}")
        missing = self.engine.tensors.keys() - self._addresses.keys()
        if missing:
            raise BrokenRuleError(f"[addresses] enqueueV3 without memory for {sorted(missing)}")
        if cuda.is_capturing(stream):
            if self._ran != self._shapes:
                raise BrokenRuleError("[capture] enqueueV3 is captured before it has run at these shapes")
            if not cuda.capturable:
                cuda.spoil_capture(stream)
                self._module.log_error("IExecutionContext::enqueueV3: operation not permitted when stream is capturing")
                return False
        if not self._own_memory and self._memory is None:
            raise BrokenRuleError("[working] enqueueV3 without memory to work in")
        views = {name: self._view(name) for name in self.engine.tensors}
        pieces = [cuda.memory_at(self._addresses[name], view.nbytes, True) for name, view in views.items()]
        if self._memory is not None:
            pieces.append(cuda.memory_at(*self._memory, True))
        engine = self.engine
        outputs = [name for name in views if name not in engine.inputs]
        changes, before, memory = self._changes, self._changes[0], self._memory

        def compute() -> None:
            if changes[0] != before:
                raise BrokenRuleError(
                    "[capture] a graph runs whose context was changed or destroyed after it was captured"
                )
            if memory is not None:  # what another context left there is gone, and the other way round
                ctypes.memset(memory[0] - DEVICE_SPACE, 0xCC, memory[1])
            results = engine.session.run(outputs, {name: views[name] for name in engine.inputs})
            for name, result in zip(outputs, results, strict=True):
                if result.shape != views[name].shape or result.dtype != views[name].dtype:
                    raise BrokenRuleError(f"[addresses] {name} is {result.dtype} {result.shape}")
                np.copyto(views[name], result)

        cuda.enqueue(stream, Operation("the engine", compute, tuple(pieces)))
        self._ran = dict(self._shapes)
        return True

    def _view(self, name: str) -> np.ndarray:
        """The memory of a tensor, by the address that it has now: what is captured keeps it."""
        dims = self.get_tensor_shape(name)
        shape = tuple(dims[axis] for axis in range(len(dims)))
        dtype = np.dtype(tensorrt_rtx.nptype(self.engine.get_tensor_dtype(name)))
        nbytes = int(np.prod(shape)) * dtype.itemsize
        self._module.cuda.memory_at(self._addresses[name], nbytes, True)
        memory = (ctypes.c_uint8 * nbytes).from_address(self._addresses[name] - DEVICE_SPACE)
        return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
