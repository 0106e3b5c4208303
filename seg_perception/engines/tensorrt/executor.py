"""One execution context with its memory and stream: images in, the engine's outputs or painted masks out."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from seg_perception.engines.base import EngineError
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.cuda import Cuda, CudaError
from seg_perception.engines.tensorrt.graphed_work import GraphedWork
from seg_perception.engines.tensorrt.holdings import Holdings, host_view
from seg_perception.engines.tensorrt.painting_kernel import PaintingStage
from seg_perception.engines.tensorrt.running_calls import Kernels, TensorSpec
from seg_perception.painting_geometry import PaintingGeometry

if TYPE_CHECKING:
    import tensorrt as trt

logger = logging.getLogger(__name__)

_POLL_S = 0.0001
_SIZES = 4  # of painted images whose memory is kept at once; a camera has one

# Contexts and engines of streams that hung. Destroying them would wait for work that never ends.
_abandoned: list[Any] = []


@dataclass(frozen=True)
class Buffer:
    """Memory of one input or output: pinned on the host, seen as `array`, and where the device has it.

    `mapped`: `device` is the same memory, as on integrated GPUs; otherwise it is a copy of its own.
    """

    spec: TensorSpec
    array: np.ndarray
    host: int
    device: int
    mapped: bool


class Executor:
    """Runs an engine for batches of one size. `run` takes no memory, `run_painted` only for a size that it has not seen.

    Args:
        tensorrt, cuda: what the engine runs on.
        engine: must outlive this.
        batch: images in every run; sets the first dimension of inputs that leave it open.
        mapped: whether host and device share memory (an integrated GPU), so that images and masks are not copied. What only
            the device reads again lies in its own memory all the same: there it is cached.
        kernels: those that an earlier process compiled; kept as an attribute.
        timeout_s: a run that takes longer has hung.
        graphs: whether the work of an image is recorded as a CUDA graph.

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
        graphs: bool = True,
    ) -> None:
        self._tensorrt = tensorrt
        self._cuda = cuda
        self._engine = engine
        self._mapped = mapped
        self._timeout_s = timeout_s
        self._graphs = graphs
        self._hung = False
        self.kernels = kernels
        self._holdings = Holdings(cuda)
        self._works: dict[tuple[Any, ...], GraphedWork] = {}
        self._stages: dict[tuple[int, int], PaintingStage] = {}
        self._painting: tuple[int, PaintingGeometry] | None = None
        self._context: trt.IExecutionContext | None = None
        self.buffers: dict[str, Buffer] = {}
        try:
            self._stream = self._holdings.take("the stream", cuda.stream_create(), cuda.stream_destroy)
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
                self.buffers[spec.name] = self._buffer(context, spec)
                if not context.set_tensor_address(spec.name, self.buffers[spec.name].device):
                    raise tensorrt.explained(f"memory for {spec.name} is refused")
        except EngineError:
            self.close()
            raise

    def paint_with(self, code: bytes, geometry: PaintingGeometry) -> None:
        """Make `run_painted` possible, with the painting kernel's machine code. Raises CudaError."""
        library = self._holdings.take("the painting kernel", self._cuda.library_load(code), self._cuda.library_unload)
        self._painting = (self._cuda.library_kernel(library, "paint"), geometry)

    @property
    def paints(self) -> bool:
        return self._painting is not None

    @property
    def graphed(self) -> bool:
        """Whether any work has become a CUDA graph."""
        return any(work.graphed for work in self._works.values())

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
        self._fill(inputs)
        self._work(("outputs",), self._enqueue_outputs).submit()
        self._wait()
        return {name: buffer.array for name, buffer in self.buffers.items() if not buffer.spec.is_input}

    def run_painted(
        self, inputs: dict[str, np.ndarray], size: tuple[int, int], confidence: bool, superpixels: bool
    ) -> dict[str, np.ndarray]:
        """Run once for one image and paint on the device; only the masks come back. After `paint_with`.

        Args:
            inputs: see `run`.
            size: (H, W) of the masks.
            confidence, superpixels: whether these are wanted beside the labels.

        Returns:
            the masks [H, W] that are wanted, by name; the arrays are this executor's and hold until the next run.

        Raises:
            as `run`, and as `prepare_painting`.
        """
        self._fill(inputs)
        self._painted_work(size, confidence, superpixels).submit()
        self._wait()
        wanted = {"labels": True, "superpixels": superpixels, "confidence": confidence}
        return {name: plane.array for name, plane in self._stages[size].planes.items() if wanted[name]}

    def prepare_painting(self, size: tuple[int, int]) -> None:
        """Take the memory for masks of this size (H, W), unless it is there. Raises CudaError where there is not enough."""
        if size not in self._stages:
            assert self._painting is not None
            if len(self._stages) == _SIZES:
                self._forget(next(iter(self._stages)))  # the one that has been there longest
            kernel, geometry = self._painting
            self._stages[size] = PaintingStage(
                self._cuda,
                self._stream,
                kernel,
                geometry,
                size,
                self.buffers["association"].device,
                self.buffers["class_logits"].device,
                self._mapped,
                self._wait,
            )

    def device_ms(self, inputs: dict[str, np.ndarray], runs: int, size: tuple[int, int] | None = None) -> list[float]:
        """Milliseconds of the device's own clock from the first call to the end of the last, for each of several runs.

        Args:
            inputs, size: as of `run`, or of `run_painted` with all masks.
            runs: how many, behind two that do not count.
        """
        self._fill(inputs)
        work = self._work(("outputs",), self._enqueue_outputs) if size is None else self._painted_work(size, True, True)
        times = []
        start, end = self._cuda.event_create(), self._cuda.event_create()
        try:
            for _ in range(runs + 2):
                self._cuda.event_record(start, self._stream)
                work.submit()
                self._cuda.event_record(end, self._stream)
                self._wait()
                times.append(self._cuda.event_elapsed_ms(start, end))
        finally:
            self._cuda.event_destroy(start)
            self._cuda.event_destroy(end)
        return times[2:]

    def close(self) -> None:
        """Give everything back; closing twice does nothing."""
        if self._context is not None:
            self._settle()
        if self._hung and self._context is not None:
            _abandoned.append((self._context, self._engine))
            logger.warning("the device memory of an engine that hung stays taken until this process ends")
        elif self._context is not None or self.buffers:
            for stage in list(self._stages):
                self._forget(stage)
            self._close_works(list(self._works))
        self.buffers = {}
        self._works = {}
        self._stages = {}
        self._painting = None
        self._context = None
        if not self._hung:
            self._holdings.close()

    # Parts

    def _fill(self, inputs: dict[str, np.ndarray]) -> None:
        if self._hung or self._context is None:
            raise EngineError("the engine has hung before or is closed; open it again")
        for name, array in inputs.items():
            np.copyto(self.buffers[name].array, array, casting="no")

    def _work(self, key: tuple[Any, ...], enqueue: Callable[[], None]) -> GraphedWork:
        if key not in self._works:
            self._works[key] = GraphedWork("TensorRT", self._cuda, self._stream, enqueue, self._may_be_graphed)
        return self._works[key]

    def _may_be_graphed(self) -> bool:
        assert self._context is not None
        return self._graphs and self._tensorrt.capturable(self._context, self._stream)

    def _enqueue_engine(self) -> None:
        for buffer in self.buffers.values():
            if buffer.spec.is_input and not buffer.mapped:
                self._cuda.copy_to_device(buffer.device, buffer.host, buffer.array.nbytes, self._stream)
        self._tensorrt.errors.clear()
        assert self._context is not None
        if not self._context.execute_async_v3(self._stream):
            raise self._tensorrt.explained("the engine did not run")

    def _enqueue_outputs(self) -> None:
        self._enqueue_engine()
        for buffer in self.buffers.values():
            if not buffer.spec.is_input and not buffer.mapped:
                self._cuda.copy_to_host(buffer.host, buffer.device, buffer.array.nbytes, self._stream)

    def _wait(self) -> None:
        """Until the stream is done. Asked for, not waited for, so that a device that hangs does not hang the robot."""
        if self._hung:
            raise EngineError("the engine has hung before; open it again")
        end = time.monotonic() + self._timeout_s
        while not self._cuda.stream_done(self._stream):
            if time.monotonic() > end:
                self._hung = True
                raise EngineError(f"the engine has not answered for {self._timeout_s:g} s; it is not used any more")
            time.sleep(_POLL_S)

    def _settle(self) -> None:
        """Let what a run that failed has left in the stream come to its end, before its memory goes."""
        for _ in range(2):  # the failure may be that of the question
            try:
                self._wait()
                return
            except CudaError as error:
                if error.sticky:
                    return  # nothing runs on a lost device
            except EngineError:
                return
        self._hung = True  # nobody knows; better its memory stays taken than that it is written to by two

    def _painted_work(self, size: tuple[int, int], confidence: bool, superpixels: bool) -> GraphedWork:
        self.prepare_painting(size)
        stage = self._stages[size]

        def enqueue() -> None:
            self._enqueue_engine()
            stage.enqueue(confidence, superpixels)
            scores = self.buffers["class_logits"]  # of the superpixels: some kilobytes
            if not scores.mapped:
                self._cuda.copy_to_host(scores.host, scores.device, scores.array.nbytes, self._stream)

        return self._work((size, confidence, superpixels), enqueue)

    def _forget(self, size: tuple[int, int]) -> None:
        """Give back what is held for a size; nothing is running."""
        self._close_works([key for key in self._works if key[0] == size])
        self._stages.pop(size).close()

    def _close_works(self, keys: list[tuple[Any, ...]]) -> None:
        for key in keys:
            try:
                self._works.pop(key).close()
            except CudaError as error:
                logger.warning("a CUDA graph could not be given back: %s", error)

    def _buffer(self, context: trt.IExecutionContext, spec: TensorSpec) -> Buffer:
        dims: trt.Dims = context.get_tensor_shape(spec.name)
        shape = tuple(int(dims[axis]) for axis in range(len(dims)))
        nbytes = math.prod(shape) * spec.dtype.itemsize
        mapped = self._mapped and spec.name not in ("association", "class_logits")
        host = self._holdings.pinned(spec.name, nbytes, mapped)
        device = self._cuda.host_device_pointer(host) if mapped else self._holdings.device(spec.name, nbytes)
        return Buffer(spec, host_view(host, nbytes).view(spec.dtype).reshape(shape), host, device, mapped)
