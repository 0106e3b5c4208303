"""One execution context with its memory and stream: numpy arrays in, numpy arrays out."""

from __future__ import annotations

import ctypes
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seg_perception.engines.base import EngineError
from seg_perception.engines.tensorrt.api import Kernels, TensorRt, TensorSpec
from seg_perception.engines.tensorrt.cuda import Cuda, CudaError

if TYPE_CHECKING:
    import tensorrt as trt

logger = logging.getLogger(__name__)

_POLL_S = 0.0001


@dataclass(frozen=True)
class Buffer:
    """Memory of one input or output: pinned on the host, seen as `array`, and where the device has it.

    On integrated GPUs `device` is the same memory, mapped; otherwise it is a copy of its own.
    """

    spec: TensorSpec
    array: np.ndarray
    host: int
    device: int
    mapped: bool


class Executor:
    """Runs an engine for batches of one size. All memory is taken here and given back by `close`; none is taken in `run`.

    Args:
        tensorrt, cuda: what the engine runs on.
        engine: must outlive this.
        batch: images in every run; sets the first dimension of inputs that leave it open.
        mapped: whether host and device share memory (an integrated GPU), so that nothing is copied.
        kernels: those that an earlier process compiled; kept as an attribute.
        timeout_s: a run that takes longer has hung.

    Raises:
        TensorRtError: the engine does not take this batch.
        CudaError: no memory. What was taken is given back.
    """

    def __init__(
        self,
        tensorrt: TensorRt,
        cuda: Cuda,
        engine: trt.ICudaEngine,
        batch: int,
        mapped: bool,
        kernels: Kernels,
        timeout_s: float = 10.0,
    ) -> None:
        self._tensorrt = tensorrt
        self._cuda = cuda
        self._timeout_s = timeout_s
        self._hung = False
        self.kernels = kernels
        self._undo: list[tuple[str, Callable[[], None]]] = []
        self._context: trt.IExecutionContext | None = None
        self.buffers: dict[str, Buffer] = {}
        try:
            self._stream = cuda.stream_create()
            self._undo.append(("the stream", lambda: cuda.stream_destroy(self._stream)))
            context = self._context = tensorrt.execution_context(engine, kernels)
            specs = tensorrt.tensors(engine)
            for spec in specs:
                if spec.is_input:
                    shape = (batch, *spec.shape[1:]) if spec.shape[0] == -1 else spec.shape
                    if not context.set_input_shape(spec.name, shape):
                        raise tensorrt.explained(f"input {spec.name} does not take the shape {list(shape)}")
            missing = context.infer_shapes()
            if missing:
                raise tensorrt.explained(f"shapes of {', '.join(missing)} are left open")
            for spec in specs:
                self.buffers[spec.name] = self._buffer(context, spec, mapped)
                if not context.set_tensor_address(spec.name, self.buffers[spec.name].device):
                    raise tensorrt.explained(f"memory for {spec.name} is refused")
        except EngineError:
            self.close()
            raise

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once.

        Args:
            inputs: an array for each input, of its shape and type.

        Returns:
            the outputs; the arrays are this executor's and hold until the next run.

        Raises:
            CudaError, TensorRtError: the run failed.
            EngineError: it hung, or a run before it did.
        """
        if self._hung or self._context is None:
            raise EngineError("the engine has hung before or is closed; open it again")
        for name, array in inputs.items():
            buffer = self.buffers[name]
            np.copyto(buffer.array, array, casting="no")
            if not buffer.mapped:
                self._cuda.copy_to_device(buffer.device, buffer.host, buffer.array.nbytes, self._stream)
        self._tensorrt.errors.clear()
        if not self._context.execute_async_v3(self._stream):
            raise self._tensorrt.explained("the engine did not run")
        outputs = [buffer for buffer in self.buffers.values() if not buffer.spec.is_input]
        for buffer in outputs:
            if not buffer.mapped:
                self._cuda.copy_to_host(buffer.host, buffer.device, buffer.array.nbytes, self._stream)
        self._wait()
        return {buffer.spec.name: buffer.array for buffer in outputs}

    def _wait(self) -> None:
        """Until the stream is done. Asked for, not waited for, so that a device that hangs does not hang the robot."""
        end = time.monotonic() + self._timeout_s
        while not self._cuda.stream_done(self._stream):
            if time.monotonic() > end:
                self._hung = True
                raise EngineError(f"the engine has not answered for {self._timeout_s:g} s; it is not used any more")
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Give everything back; closing twice does nothing."""
        self.buffers = {}
        self._context = None
        undo, self._undo = self._undo, []
        if self._hung:
            # Freeing would wait for the work that never ends.
            logger.warning("the device memory of an engine that hung stays taken until this process ends")
            return
        for what, give_back in reversed(undo):
            try:
                give_back()
            except CudaError as error:  # a lost device: there is nothing left to give back
                logger.warning("%s could not be given back: %s", what, error)

    def _buffer(self, context: trt.IExecutionContext, spec: TensorSpec, mapped: bool) -> Buffer:
        dims: trt.Dims = context.get_tensor_shape(spec.name)
        shape = tuple(int(dims[axis]) for axis in range(len(dims)))
        nbytes = math.prod(shape) * spec.dtype.itemsize
        host = self._cuda.host_alloc(nbytes, mapped)
        self._undo.append((f"host memory of {spec.name}", lambda: self._cuda.host_free(host)))
        if mapped:
            device = self._cuda.host_device_pointer(host)
        else:
            device = self._cuda.malloc(nbytes)
            self._undo.append((f"device memory of {spec.name}", lambda: self._cuda.free(device)))
        return Buffer(spec, host_view(host, nbytes).view(spec.dtype).reshape(shape), host, device, mapped)


def host_view(pointer: int, nbytes: int) -> np.ndarray:
    """uint8 [nbytes] on memory at an address; it must outlive the array."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(pointer))
