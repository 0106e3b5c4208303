"""An engine at work: images in, its outputs or painted masks out, on one stream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from seg_perception.engines.base import EngineError, MaskRequest
from seg_perception.engines.tensorrt import hung
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.bindings import BatchContext, Buffer, bind, make_contexts, take_buffers
from seg_perception.engines.tensorrt.cuda import Cuda, CudaError
from seg_perception.engines.tensorrt.graphed_work import GraphedWork
from seg_perception.engines.tensorrt.holdings import Holdings
from seg_perception.engines.tensorrt.painting_kernel import PaintingStage
from seg_perception.engines.tensorrt.painting_stages import PaintingStages, Place
from seg_perception.engines.tensorrt.running_calls import Kernels
from seg_perception.engines.tensorrt.watched_stream import WatchedStream
from seg_perception.painting_geometry import PaintingGeometry

if TYPE_CHECKING:
    import tensorrt as trt

logger = logging.getLogger(__name__)

_WORKS = 24  # CUDA graphs that are kept at once: what is wanted of each image, in each combination that comes

WorkKey = tuple[int, tuple[MaskRequest, ...] | None]  # images, and what is painted of each; None: the engine's outputs


class Executor:
    """Runs an engine. `run` takes no memory, `run_painted` only for a size that it has not seen.

    One stream and one thread serve all cameras: images of several run together as a batch, or one after another. A device that
    one image fills gains nothing from a stream for each camera.

    Args:
        tensorrt, cuda: what the engine runs on.
        engine: must outlive this.
        batches: the numbers of images that runs may have, ascending; inputs that leave their first dimension open take it.
        mapped: whether host and device share memory (an integrated GPU), so that images and masks are not copied.
        kernels: those that an earlier process compiled; kept as an attribute, as is the stream.
        timeout_s: a run that takes longer has hung.
        graphs: whether the work of an image is recorded as a CUDA graph.

    Raises:
        TensorRtError: the engine does not take so many images.
        CudaError: no memory. What was taken is given back.
    """

    def __init__(
        self,
        tensorrt: TensorRt,
        cuda: Cuda,
        engine: trt.ICudaEngine,
        batches: Sequence[int],
        mapped: bool,
        kernels: Kernels,
        timeout_s: float = 10.0,
        graphs: bool = True,
    ) -> None:
        self._tensorrt = tensorrt
        self._cuda = cuda
        self._engine = engine
        self._mapped = mapped
        self._graphs = graphs
        self._open = True
        self.kernels = kernels
        self._holdings = Holdings(cuda)
        self._works: dict[WorkKey, GraphedWork] = {}  # the longest unused first
        self._painting: PaintingStages | None = None
        self._contexts: dict[int, BatchContext] = {}
        self.buffers: dict[str, Buffer] = {}
        try:
            handle = self._holdings.take("the stream", cuda.stream_create(), cuda.stream_destroy)
            self.stream = WatchedStream(cuda, handle, timeout_s)
            specs = tensorrt.tensors(engine)
            contexts = make_contexts(tensorrt, self._holdings, engine, batches, specs, kernels)
            self.buffers = take_buffers(cuda, self._holdings, contexts[max(batches)], specs, mapped)
            self._contexts = {batch: bind(tensorrt, context, self.buffers) for batch, context in contexts.items()}
        except EngineError:
            self.close()
            raise

    def paint_with(self, code: bytes, geometry: PaintingGeometry) -> None:
        """Make `run_painted` possible, with the painting kernel's machine code. Raises CudaError."""
        library = self._holdings.take("the painting kernel", self._cuda.library_load(code), self._cuda.library_unload)
        kernel = self._cuda.library_kernel(library, "paint")
        self._painting = PaintingStages(lambda place: self._stage(place, kernel, geometry), self._forget)

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
            inputs: an array for each input, of its type, with one of the numbers of images.

        Returns:
            the outputs; the arrays are this executor's and hold until the next run.

        Raises:
            CudaError, TensorRtError: the run failed.
            EngineError: it hung, or a run before it did.
        """
        batch = self._fill(inputs)
        self._outputs_work(batch).submit()
        self.stream.wait()
        arrays = self._contexts[batch].arrays
        return {name: arrays[name] for name, buffer in self.buffers.items() if not buffer.spec.is_input}

    def run_painted(
        self, inputs: dict[str, np.ndarray], requests: Sequence[MaskRequest]
    ) -> list[dict[str, np.ndarray]]:
        """Run once and paint on the device; only the masks come back. After `paint_with`.

        Args:
            inputs: see `run`.
            requests: what is wanted of each image.

        Returns:
            for each image the masks [H, W] that are wanted, by name, and `class_logits`; the arrays are this executor's and
            hold until the next run.

        Raises:
            as `run`, and as `prepare_painting`.
        """
        batch = self._fill(inputs)
        self._painted_work(batch, tuple(requests)).submit()
        self.stream.wait()
        assert self._painting is not None
        stages = self._painting.prepare([request.size for request in requests])
        scores = self._contexts[batch].arrays["class_logits"]
        return [
            stage.masks(request.confidence, request.superpixels) | {"class_logits": scores[place]}
            for place, (stage, request) in enumerate(zip(stages, requests, strict=True))
        ]

    def prepare_painting(self, sizes: Sequence[tuple[int, int]]) -> None:
        """Take the memory for masks of these sizes (H, W), one for each place in the batch, unless it is there.

        Raises:
            CudaError: there is not enough.
        """
        assert self._painting is not None
        self._painting.prepare(sizes)

    def device_ms(
        self, inputs: dict[str, np.ndarray], runs: int, requests: Sequence[MaskRequest] | None = None
    ) -> list[float]:
        """Milliseconds of the device's own clock from the first call to the end of the last, for each of several runs.

        Args:
            inputs, requests: as of `run`, or of `run_painted`.
            runs: how many, behind two that do not count.
        """
        batch = self._fill(inputs)
        work = self._outputs_work(batch) if requests is None else self._painted_work(batch, tuple(requests))
        times = []
        events = Holdings(self._cuda)
        try:
            start, end = (
                events.take("an event", self._cuda.event_create(), self._cuda.event_destroy) for _ in range(2)
            )
            for _ in range(runs + 2):
                self._cuda.event_record(start, self.stream.handle)
                work.submit()
                self._cuda.event_record(end, self.stream.handle)
                self.stream.wait()
                times.append(self._cuda.event_elapsed_ms(start, end))
        finally:
            events.close()
        return times[2:]

    def close(self) -> None:
        """Give everything back; closing twice does nothing.

        What a stream still works on stays, and with it the engine; see `hung`.
        """
        if not self._open:
            return
        self._open = False
        if self._contexts:
            self.stream.settle()
        if self._contexts and self.stream.hung:
            hung.keep(self)
        else:
            self._free()

    # What `hung` asks of it

    @property
    def cuda(self) -> Cuda:
        return self._cuda

    def free_if_done(self) -> bool:
        """Give everything back if the stream has come to its end after all. Raises CudaError where it cannot be asked."""
        if not self._cuda.stream_done(self.stream.handle):
            return False
        self.stream.hung = False
        self._free()
        return True

    # Parts

    def _free(self) -> None:
        if self._painting is not None:
            self._painting.close()
        self._close_works(list(self._works))
        self._contexts = {}
        self.buffers = {}
        self._painting = None
        self._holdings.close()

    def _fill(self, inputs: dict[str, np.ndarray]) -> int:
        """Put the inputs where the device takes them; returns how many images that are."""
        if not self._open or self.stream.hung:
            raise EngineError("the engine has hung before or is closed; open it again")
        (batch,) = {len(array) for array in inputs.values()}
        if batch not in self._contexts:
            raise EngineError(f"{batch} images at once, expected one of: {', '.join(map(str, self._contexts))}")
        for name, array in inputs.items():
            np.copyto(self._contexts[batch].arrays[name], array, casting="no")
        return batch

    def _outputs_work(self, batch: int) -> GraphedWork:
        arrays = self._contexts[batch].arrays

        def enqueue() -> None:
            self._enqueue_engine(batch)
            for name, buffer in self.buffers.items():
                if not buffer.spec.is_input and not buffer.mapped:
                    self._cuda.copy_to_host(buffer.host, buffer.device, arrays[name].nbytes, self.stream.handle)

        return self._work((batch, None), batch, enqueue)

    def _painted_work(self, batch: int, requests: tuple[MaskRequest, ...]) -> GraphedWork:
        assert self._painting is not None
        stages = self._painting.prepare([request.size for request in requests])
        scores, nbytes = self.buffers["class_logits"], self._contexts[batch].arrays["class_logits"].nbytes

        def enqueue() -> None:
            self._enqueue_engine(batch)
            for stage, request in zip(stages, requests, strict=True):
                stage.enqueue(request.confidence, request.superpixels)
            if not scores.mapped:  # of the superpixels: some kilobytes
                self._cuda.copy_to_host(scores.host, scores.device, nbytes, self.stream.handle)

        return self._work((batch, requests), batch, enqueue)

    def _work(self, key: WorkKey, batch: int, enqueue: Callable[[], None]) -> GraphedWork:
        work = self._works.pop(key, None)
        if work is None:
            if len(self._works) == _WORKS:
                self._close_works([next(iter(self._works))])
            context = self._contexts[batch].context
            work = GraphedWork(
                "TensorRT", self._cuda, self.stream.handle, enqueue, lambda: self._may_be_graphed(context)
            )
        self._works[key] = work  # the newest last
        return work

    def _may_be_graphed(self, context: trt.IExecutionContext) -> bool:
        return self._graphs and self._tensorrt.capturable(context, self.stream.handle)

    def _enqueue_engine(self, batch: int) -> None:
        found = self._contexts[batch]
        for name, buffer in self.buffers.items():
            if buffer.spec.is_input and not buffer.mapped:
                self._cuda.copy_to_device(buffer.device, buffer.host, found.arrays[name].nbytes, self.stream.handle)
        self._tensorrt.errors.clear()
        if not found.context.execute_async_v3(self.stream.handle):
            raise self._tensorrt.explained("the engine did not run")

    def _stage(self, place: Place, kernel: int, geometry: PaintingGeometry) -> PaintingStage:
        """Paints the image at a place of the batch: its part of the engine's outputs."""
        one = next(iter(self._contexts.values())).arrays
        association, class_logits = (
            self.buffers[name].device + place[0] * one[name][0].nbytes for name in ("association", "class_logits")
        )
        return PaintingStage(
            self._cuda,
            self.stream.handle,
            kernel,
            geometry,
            place[1],
            association,
            class_logits,
            self._mapped,
            self.stream.wait,
        )

    def _forget(self, place: Place) -> None:
        self._close_works([key for key in self._works if place in enumerate(r.size for r in key[1] or ())])

    def _close_works(self, keys: list[WorkKey]) -> None:
        for key in keys:
            try:
                self._works.pop(key).close()
            except CudaError as error:
                logger.warning("a CUDA graph could not be given back: %s", error)
                if error.sticky:  # of a lost device nothing can be given back
                    self._works = {}
                    return
