"""Work that is given to a stream for every image: as single calls at first, as a CUDA graph from then on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from seg_perception.engines.base import EngineError
from seg_perception.engines.tensorrt.cuda import Cuda, CudaError

logger = logging.getLogger(__name__)


class GraphedWork:
    """The same calls for every image, on the same memory.

    The first time they are made as they are: TensorRT takes what it needs only when it first runs at a shape, which cannot be
    recorded ("CUDA Graphs", TensorRT developer guide). The second time they are recorded. Where that fails, they are made as
    they are for good, which costs some microseconds a call and nothing else.

    Args:
        name: for messages.
        cuda, stream: where they go.
        enqueue: makes them; nothing in it takes memory or waits.
        wanted: whether they may be recorded; asked once, after the first time.
    """

    def __init__(
        self, name: str, cuda: Cuda, stream: int, enqueue: Callable[[], None], wanted: Callable[[], bool]
    ) -> None:
        self._name = name
        self._cuda = cuda
        self._stream = stream
        self._enqueue = enqueue
        self._wanted = wanted
        self._warm = False
        self._plain = False
        self._graph: int | None = None  # instantiated

    @property
    def graphed(self) -> bool:
        """Whether it is a graph by now."""
        return self._graph is not None

    def submit(self) -> None:
        """Give it to the stream once; returns at once.

        Raises:
            CudaError, TensorRtError: refused.
        """
        if self._warm and self._graph is None and not self._plain:
            self._plain = not (self._wanted() and self._record())
        if self._graph is None:
            self._enqueue()
            self._warm = True
        else:
            self._cuda.graph_launch(self._graph, self._stream)

    def close(self) -> None:
        """Free the graph; it must not be running. Raises CudaError."""
        graph, self._graph = self._graph, None
        if graph is not None:
            self._cuda.graph_exec_destroy(graph)

    def _record(self) -> bool:
        cuda, stream = self._cuda, self._stream
        try:
            cuda.begin_capture(stream)
            try:
                self._enqueue()
            except EngineError:
                # What failed has spoiled the recording, which must be ended all the same; it says so a second time.
                with contextlib.suppress(CudaError):
                    cuda.graph_destroy(cuda.end_capture(stream))
                raise
            graph = cuda.end_capture(stream)
            try:
                self._graph = cuda.graph_instantiate(graph)
            finally:
                cuda.graph_destroy(graph)
        except EngineError as error:
            if isinstance(error, CudaError) and error.sticky:
                raise
            logger.warning("%s runs without a CUDA graph: %s", self._name, error)
            self.close()
            return False
        return True
