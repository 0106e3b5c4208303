"""The engine `tensorrt`: prepared once, checked against the model, run by one context."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from seg_perception.engines.base import Engine, EngineError, MaskRequest
from seg_perception.engines.tensorrt import hung
from seg_perception.engines.tensorrt.acceptance import (
    Check,
    DisagreementError,
    require_agreement,
    require_batch_agreement,
    unless_the_cache_can_only_be_read,
)
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.cuda import Cuda, CudaError
from seg_perception.engines.tensorrt.executor import Executor
from seg_perception.engines.tensorrt.module import NoMemoryError, TensorRtError
from seg_perception.engines.tensorrt.options import BuildOptions
from seg_perception.engines.tensorrt.painting_kernel import PLANES, kept_kernel
from seg_perception.engines.tensorrt.painting_source import PaintingConstants
from seg_perception.engines.tensorrt.prepare import Preparation, PreparedEngine
from seg_perception.engines.tensorrt.running_calls import Kernels
from seg_perception.model.model_file import ModelInfo
from seg_perception.painting import Painted

if TYPE_CHECKING:
    import tensorrt as trt

logger = logging.getLogger(__name__)


class TensorRtEngine(Engine):
    """Runs the model in TensorRT; see `Engine` for arguments and calls.

    `open` takes the engine out of the cache or builds it, which takes minutes, and checks it once against another engine.

    Args:
        info, threads, precision, batch_size: see `Engine`. `threads` has no meaning here.
        tensorrt, cuda: what it runs on.
        preparation: where its engine comes from.
        choices: how that is built: the first of these that agrees; their `max_batch`, at least `batch_size`, is the most
            images that `infer_painted_batch` takes.
        check: how far it agrees with the model, asked once for each built engine.
        threshold: least share of pixels on which it must.
        graphs: whether runs become CUDA graphs where they can.

    Raises:
        EngineError: there is no driver. One that cannot be used is told by `open`.
        ValueError: an argument is outside its range.
    """

    name = "tensorrt"

    def __init__(
        self,
        info: ModelInfo,
        threads: int,
        precision: str,
        batch_size: int,
        *,
        tensorrt: TensorRt,
        cuda: Cuda,
        preparation: Preparation,
        choices: Sequence[BuildOptions],
        check: Check,
        threshold: float,
        graphs: bool = True,
    ) -> None:
        super().__init__(info, threads, precision, batch_size)
        if not cuda.device_count() and not cuda.driver_version():
            raise EngineError(f"engine tensorrt needs an NVIDIA GPU: {cuda.why_no_device()}; or choose another engine")
        largest = min(options.max_batch for options in choices)
        if largest < batch_size:
            raise ValueError(f"the engine is built for 1 to {largest} images, asked for {batch_size}")
        # Painted images come in any number; everything else in the batch size.
        paints = info.geometry is not None and info.batch_size is None
        self._batches = sorted({batch_size, *(range(1, largest + 1) if paints else ())})
        self._tensorrt = tensorrt
        self._cuda = cuda
        self._preparation = preparation
        self._choices = tuple(choices)
        self._check = check
        self._threshold = threshold
        self._graphs = graphs
        self._painting_problem = ""
        self._engine: trt.ICudaEngine | None = None
        self._executor: Executor | None = None
        self._description = self.name

    @property
    def description(self) -> str:
        return self._description

    def open(self) -> None:
        if self._executor is not None:
            return
        if not self._cuda.device_count():  # with a driver, such as one that is older than CUDA's libraries
            raise EngineError(f"engine tensorrt cannot use the GPU: {self._cuda.why_no_device()}")
        hung.give_back(self._cuda)
        self._cuda.set_device(0)
        for options in self._choices[:-1]:
            try:
                self._open(options)
            except DisagreementError as error:
                logger.error("%s; trying the next", error)
            else:
                return
        self._open(self._choices[-1])

    def _open(self, options: BuildOptions) -> None:
        prepared = self._preparation.engine(self.info.path, options)
        try:
            engine = self._tensorrt.engine(prepared.plan)
        except NoMemoryError:
            raise
        except TensorRtError as error:
            self._cuda.memory()  # raises where the device is lost, which no other engine would mend
            if prepared.built:
                raise
            # Whole and of this key, and still refused: what the key does not know of has changed.
            logger.warning("%s; it is built again", error)
            self._preparation.cache.remove(prepared.name)
            prepared = self._preparation.engine(self.info.path, options)
            engine = self._tensorrt.engine(prepared.plan)
        try:
            self._load(prepared, engine)
            require_agreement(self, prepared, self._check, self._threshold, self._preparation.cache)
            self._keep_kernels(prepared)
            self._prepare_painting()
            require_batch_agreement(self, prepared.name, self._threshold)
        except BaseException:
            self.close()
            raise

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        if self._executor is None:
            raise EngineError("engine tensorrt is not open; call open() first")
        self._check_image(image)
        outputs = self._executor.run({"image": image})
        return {name: outputs[name] for name in self.output_names}

    def infer_painted(
        self, image: np.ndarray, size: tuple[int, int], confidence: bool, superpixels: bool
    ) -> Painted | None:
        painted = self.infer_painted_batch(image, [MaskRequest(size, confidence, superpixels)])
        return None if painted is None else painted[0]

    def infer_painted_batch(self, images: np.ndarray, requests: Sequence[MaskRequest]) -> list[Painted] | None:
        executor = self._executor
        if executor is None:
            raise EngineError("engine tensorrt is not open; call open() first")
        if not executor.paints or self._painting_problem:
            return None
        self._check_images(images, requests)
        if len(requests) not in self._batches:  # the model file is fixed to another number
            return None
        try:
            executor.prepare_painting([request.size for request in requests])
        except CudaError as error:
            if error.sticky:
                raise
            self._paint_on_the_processor(error)
            return None
        return [
            Painted(
                **{name: masks[name].copy() if name in masks else None for name in PLANES},
                class_logits=masks["class_logits"],
            )
            for masks in executor.run_painted({"image": images}, requests)
        ]

    @property
    def holds_device(self) -> bool:
        return self._executor is not None

    @property
    def device_memory(self) -> tuple[int, int] | None:
        if self._executor is None:
            return None  # asking would make CUDA take memory
        try:
            return self._cuda.memory()
        except CudaError as error:
            logger.debug("device memory: %s", error)  # whoever runs the engine is told
            return None

    @property
    def best_batch(self) -> int:
        return self._batches[-1] if self.paints else 1

    @property
    def problem(self) -> str:
        return self._painting_problem

    def device_ms(self, images: np.ndarray, runs: int, requests: Sequence[MaskRequest] | None = None) -> list[float]:
        """Milliseconds of the device's own clock for each of several runs; with requests, painting included.

        Raises:
            EngineError: not open, it failed, or it does not paint.
        """
        if self._executor is None or (requests is not None and not self._executor.paints):
            raise EngineError("engine tensorrt is not open, or does not paint")
        return self._executor.device_ms({"image": images}, runs, requests)

    @property
    def graphed(self) -> bool:
        """Whether runs have become CUDA graphs."""
        return self._executor is not None and self._executor.graphed

    @property
    def paints(self) -> bool:
        """Whether it paints on the device."""
        return self._executor is not None and self._executor.paints and not self._painting_problem

    def close(self) -> None:
        if self._executor is not None:
            self._executor.close()
        self._executor = None
        self._engine = None

    def _load(self, prepared: PreparedEngine, engine: trt.ICudaEngine) -> None:
        device = self._cuda.device(0)
        missing = set(self.output_names) - {spec.name for spec in self._tensorrt.tensors(engine)}
        if missing:
            raise TensorRtError(f"engine {prepared.name} has no output {', '.join(sorted(missing))}")
        kernels = Kernels(self._preparation.cache.kept(f"{prepared.name}.kernels"))
        self._executor = Executor(
            self._tensorrt,
            self._cuda,
            engine,
            self._batches,
            mapped=device.integrated,
            kernels=kernels,
            graphs=self._graphs,
        )
        self._engine = engine
        precision = prepared.manifest["key"]["options"]["precision"]
        self._description = f"tensorrt: {self._tensorrt.name} {self._tensorrt.version}, {device.name}, {precision}"

    def _prepare_painting(self) -> None:
        """Let the device paint. Where it cannot, the processor does, and that is said."""
        self._painting_problem = ""
        if self.info.geometry is None:
            return
        assert self._executor is not None
        types = {name: buffer.spec.dtype for name, buffer in self._executor.buffers.items()}
        try:
            constants = PaintingConstants(
                self.info.geometry.grid,
                self.info.geometry.feature_cell,
                self.info.num_classes,
                types["association"],
                types["class_logits"],
            )
            code = kept_kernel(constants, self._cuda.device(0).compute_capability, self._preparation.cache)
            self._executor.paint_with(code, self.info.geometry)
            self._executor.prepare_painting([self.info.input_size])
        except (EngineError, ValueError, OSError) as error:
            if isinstance(error, CudaError) and error.sticky:
                raise
            self._paint_on_the_processor(error)

    def _check_images(self, images: np.ndarray, requests: Sequence[MaskRequest]) -> None:
        expected = (len(requests), *self.info.input_size, 3)
        if images.shape != expected or images.dtype != np.uint8:
            raise ValueError(f"images are {images.dtype} {list(images.shape)}, expected uint8 {list(expected)}")
        if not 1 <= len(requests) <= self._batches[-1]:
            raise ValueError(f"{len(requests)} images at once, expected 1 to {self._batches[-1]}")
        if any(min(request.size) < 1 for request in requests):
            raise ValueError(f"sizes are {[r.size for r in requests]}, expected (H, W), at least 1 pixel each")

    def _paint_on_the_processor(self, error: BaseException) -> None:
        self._painting_problem = f"painting on the processor: {error}"
        logger.warning("%s", self._painting_problem)

    def _keep_kernels(self, prepared: PreparedEngine) -> None:
        """Run once, so that all kernels are there, and keep those that were compiled for that."""
        assert self._executor is not None
        for batch in self._batches:
            self._executor.run({"image": np.zeros((batch, *self.info.input_size, 3), np.uint8)})
        kernels = self._executor.kernels
        if kernels.new:
            with unless_the_cache_can_only_be_read():
                self._preparation.cache.keep(f"{prepared.name}.kernels", kernels.to_bytes())
