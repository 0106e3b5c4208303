"""The calls of TensorRT that run an engine: its tensors, contexts, and kernels."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from seg_perception.engines.tensorrt.module import UsedModule

if TYPE_CHECKING:
    import tensorrt as trt

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of an engine. `shape` has -1 where the profile leaves a dimension open."""

    name: str
    is_input: bool
    dtype: np.dtype
    shape: tuple[int, ...]


class Kernels:
    """The kernels that TensorRT for RTX compiles when it first runs an engine; seconds that need be spent only once.

    TensorRT itself refuses what another GPU, driver or version compiled.

    Args:
        kept: from an earlier process; empty for none.
    """

    def __init__(self, kept: bytes) -> None:
        self._kept = kept
        self._cache: Any = None

    def cache_of(self, config: Any) -> Any:
        """The `IRuntimeCache` for a context that is made with this `IRuntimeConfig`."""
        self._cache = config.create_runtime_cache()
        if self._kept and not self._cache.deserialize(self._kept):
            logger.info("kernels that were kept do not fit any more and are compiled anew")
            self._kept = b""
        return self._cache

    @property
    def new(self) -> bool:
        """Whether some were compiled that were not kept."""
        return self._cache is not None and not self._kept

    def to_bytes(self) -> bytes:
        """All of them, for the next process."""
        return bytes(self._cache.serialize())


class RunningCalls(UsedModule):
    """What running an engine takes. Where versions differ is listed in `api`."""

    def engine(self, plan: bytes) -> trt.ICudaEngine:
        """Deserialize an engine. That executes what is in it: only give it bytes whose origin is known.

        Raises:
            TensorRtError: built by another version, for another GPU, damaged, or no driver.
        """
        self.errors.clear()
        runtime: trt.Runtime | None
        try:
            runtime = self._module.Runtime(self._logger)
        except (TypeError, RuntimeError) as error:
            raise self.explained("the runtime cannot start", error) from error
        engine: trt.ICudaEngine | None = None if runtime is None else runtime.deserialize_cuda_engine(plan)
        if engine is None:  # no exception: the reason is in the log alone
            raise self.explained("the engine cannot be loaded")
        return engine

    def tensors(self, engine: trt.ICudaEngine) -> list[TensorSpec]:
        """The engine's inputs and outputs."""
        modes: type[trt.TensorIOMode] = self._module.TensorIOMode
        specs = []
        for i in range(engine.num_io_tensors):
            name = engine.get_tensor_name(i)
            dtype = np.dtype(self._module.nptype(engine.get_tensor_dtype(name)))
            dims: trt.Dims = engine.get_tensor_shape(name)
            shape = tuple(int(dims[axis]) for axis in range(len(dims)))
            specs.append(TensorSpec(name, engine.get_tensor_mode(name) == modes.INPUT, dtype, shape))
        return specs

    def execution_contexts(
        self, engine: trt.ICudaEngine, kernels: Kernels, count: int, own_memory: bool
    ) -> list[trt.IExecutionContext]:
        """Contexts of the engine.

        Args:
            engine: must outlive the contexts.
            kernels: taken from here, and new ones added, where they are not in the engine itself.
            count: how many.
            own_memory: each takes the device memory here that it works in; otherwise it is given some by `set_device_memory`.

        Raises:
            TensorRtError: the memory is not to be had.
        """
        self.errors.clear()
        strategies: type[trt.ExecutionContextAllocationStrategy] = self._module.ExecutionContextAllocationStrategy
        strategy = strategies.STATIC if own_memory else strategies.USER_MANAGED
        how: Any = strategy
        if self.is_rtx:
            how = engine.create_runtime_config()
            how.set_execution_context_allocation_strategy(strategy)
            how.set_runtime_cache(kernels.cache_of(how))  # one for all of them
        contexts = []
        for _ in range(count):
            context: trt.IExecutionContext | None = engine.create_execution_context(how)
            if context is None:
                raise self.explained("no execution context could be made")
            contexts.append(context)
        return contexts

    def context_memory(self, engine: trt.ICudaEngine) -> int:
        """Bytes of device memory that a context of the engine works in, at most."""
        return int(engine.device_memory_size_v2)

    def capturable(self, context: trt.IExecutionContext, stream: int) -> bool:
        """Whether running this context may be recorded as a CUDA graph.

        TensorRT for RTX knows, and would have to be given its memory for some models; TensorRT says so by failing.
        """
        if not self.is_rtx:
            return True
        rtx: Any = context
        return bool(rtx.is_stream_capturable(stream))
