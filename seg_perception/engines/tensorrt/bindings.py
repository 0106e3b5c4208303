"""The memory of an engine's inputs and outputs, and a context for each number of images that it is run with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.cuda import Cuda
from seg_perception.engines.tensorrt.holdings import Holdings, host_view
from seg_perception.engines.tensorrt.running_calls import Kernels, TensorSpec

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True)
class Buffer:
    """Memory of one input or output, large enough for the most images: pinned on the host, and where the device has it.

    `mapped`: `device` is the same memory, as on integrated GPUs; otherwise it is a copy of its own.
    """

    spec: TensorSpec
    host: int
    device: int
    mapped: bool


@dataclass(frozen=True)
class BatchContext:
    """An execution context for one number of images, its shapes and addresses set for good.

    That nothing of it changes is what CUDA graphs need: a graph is valid for the context as it was when it was recorded.

    Attributes:
        context: of the engine.
        arrays: the host's view of each buffer at this number of images.
    """

    context: trt.IExecutionContext
    arrays: dict[str, np.ndarray]


def take_buffers(
    cuda: Cuda, holdings: Holdings, largest: trt.IExecutionContext, specs: Sequence[TensorSpec], mapped: bool
) -> dict[str, Buffer]:
    """Memory for the shapes of a context.

    Args:
        cuda, holdings: where it comes from, and who gives it back.
        largest: the context for the most images, its input shapes set.
        specs: inputs and outputs.
        mapped: whether host and device share memory. What only the device reads again lies in its own all the same: there
            it is cached.

    Raises:
        CudaError: there is not enough.
    """
    buffers = {}
    for spec in specs:
        nbytes = math.prod(shape_of(largest, spec.name)) * spec.dtype.itemsize
        shared = mapped and spec.name not in ("association", "class_logits")
        host = holdings.pinned(spec.name, nbytes, shared)
        device = cuda.host_device_pointer(host) if shared else holdings.device(spec.name, nbytes)
        buffers[spec.name] = Buffer(spec, host, device, shared)
    return buffers


def make_contexts(
    tensorrt: TensorRt,
    holdings: Holdings,
    engine: trt.ICudaEngine,
    batches: Sequence[int],
    specs: Sequence[TensorSpec],
    kernels: Kernels,
) -> dict[int, trt.IExecutionContext]:
    """A context for each number of images, its input shapes set.

    Several of them work in the same memory, since they run one after another: a context's own would be that of the most
    images each time.

    Raises:
        TensorRtError: no memory, or the engine does not take so many images.
        CudaError: no memory.
    """
    shared = len(batches) > 1
    memory, nbytes = 0, 0
    if shared:
        nbytes = tensorrt.context_memory(engine)
        memory = holdings.device("what contexts work in", nbytes) if nbytes else 0
    found = {}
    contexts = tensorrt.execution_contexts(engine, kernels, len(batches), own_memory=not shared)
    for batch, context in zip(batches, contexts, strict=True):
        if memory:
            context.set_device_memory(memory, nbytes)
        for spec in specs:
            if spec.is_input:
                shape = (batch, *spec.shape[1:]) if spec.shape[0] == -1 else spec.shape
                if not context.set_input_shape(spec.name, shape):
                    raise tensorrt.explained(f"input {spec.name} does not take the shape {list(shape)}")
        missing = context.infer_shapes()
        if missing:
            raise tensorrt.explained(f"shapes of {', '.join(missing)} are left open")
        found[batch] = context
    return found


def bind(tensorrt: TensorRt, context: trt.IExecutionContext, buffers: dict[str, Buffer]) -> BatchContext:
    """Give a context its addresses. Raises TensorRtError where one is refused."""
    arrays = {}
    for name, buffer in buffers.items():
        if not context.set_tensor_address(name, buffer.device):
            raise tensorrt.explained(f"memory for {name} is refused")
        shape = shape_of(context, name)
        nbytes = math.prod(shape) * buffer.spec.dtype.itemsize
        arrays[name] = host_view(buffer.host, nbytes).view(buffer.spec.dtype).reshape(shape)
    return BatchContext(context, arrays)


def shape_of(context: trt.IExecutionContext, name: str) -> tuple[int, ...]:
    """The shape of a tensor at the context's input shapes."""
    dims: trt.Dims = context.get_tensor_shape(name)
    return tuple(int(dims[axis]) for axis in range(len(dims)))
