"""The engine `tensorrt`: prepared once, checked against the model, run by one context."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from seg_perception.engines.base import Engine, EngineError
from seg_perception.engines.tensorrt.agreement import Agreement
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

Check = Callable[[Engine], Agreement | None]  # an open engine -> how far it agrees; None where it cannot be checked


class DisagreementError(EngineError):
    """An engine computes something else than its model, and is not put into use. One line with the figures."""


class TensorRtEngine(Engine):
    """Runs the model in TensorRT; see `Engine` for arguments and calls.

    `open` takes the engine out of the cache or builds it, which takes minutes, and checks it once against another engine.

    Args:
        info, threads, precision, batch_size: see `Engine`. `threads` has no meaning here.
        tensorrt, cuda: what it runs on.
        preparation: where its engine comes from.
        choices: how that is built: the first of these that agrees; their `max_batch` is at least `batch_size`.
        check: how far it agrees with the model, asked once for each built engine.
        threshold: least share of pixels on which it must.
        graphs: whether runs become CUDA graphs where they can.

    Raises:
        EngineError: there is no device.
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
        if not cuda.device_count():
            raise EngineError(f"engine tensorrt needs an NVIDIA GPU: {cuda.why_no_device()}; or choose another engine")
        largest = min(options.max_batch for options in choices)
        if largest < batch_size:
            raise ValueError(f"the engine is built for 1 to {largest} images, asked for {batch_size}")
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
            if prepared.built:
                raise
            # Whole and of this key, and still refused: what the key does not know of has changed.
            logger.warning("%s; it is built again", error)
            self._preparation.cache.remove(prepared.name)
            prepared = self._preparation.engine(self.info.path, options)
            engine = self._tensorrt.engine(prepared.plan)
        try:
            self._load(prepared, engine)
            self._require_agreement(prepared)
            self._keep_kernels(prepared)
            self._prepare_painting()
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
        executor = self._executor
        if executor is None:
            raise EngineError("engine tensorrt is not open; call open() first")
        if not executor.paints or self._painting_problem:
            return None
        self._check_image(image)
        try:
            executor.prepare_painting(size)
        except CudaError as error:
            if error.sticky:
                raise
            self._paint_on_the_processor(error)
            return None
        masks = executor.run_painted({"image": image}, size, confidence, superpixels)
        return Painted(
            **{name: masks[name].copy() if name in masks else None for name in PLANES},
            class_logits=executor.buffers["class_logits"].array[0],
        )

    @property
    def holds_device(self) -> bool:
        return self._executor is not None

    @property
    def problem(self) -> str:
        return self._painting_problem

    def device_ms(self, image: np.ndarray, runs: int, size: tuple[int, int] | None = None) -> list[float]:
        """Milliseconds of the device's own clock for each of several runs; with a size (H, W), painting included.

        Raises:
            EngineError: not open, it failed, or it does not paint.
        """
        if self._executor is None or (size is not None and not self._executor.paints):
            raise EngineError("engine tensorrt is not open, or does not paint")
        return self._executor.device_ms({"image": image}, runs, size)

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
            self.batch_size,
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
        if self.info.geometry is None or self.batch_size != 1:
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
            self._executor.prepare_painting(self.info.input_size)
        except (EngineError, ValueError, OSError) as error:
            if isinstance(error, CudaError) and error.sticky:
                raise
            self._paint_on_the_processor(error)

    def _paint_on_the_processor(self, error: BaseException) -> None:
        self._painting_problem = f"painting on the processor: {error}"
        logger.warning("%s", self._painting_problem)

    def _keep_kernels(self, prepared: PreparedEngine) -> None:
        """Run once, so that all kernels are there, and keep those that were compiled for that."""
        assert self._executor is not None
        self._executor.run({"image": np.zeros((self.batch_size, *self.info.input_size, 3), np.uint8)})
        kernels = self._executor.kernels
        if kernels.new:
            with _unless_the_cache_can_only_be_read():
                self._preparation.cache.keep(f"{prepared.name}.kernels", kernels.to_bytes())

    def _require_agreement(self, prepared: PreparedEngine) -> None:
        """Check the engine unless it has been; what was found is kept with it."""
        kept = Agreement.from_json(prepared.manifest.get("agreement"))
        agreement = kept or self._check(self)
        if agreement is None:
            return
        if not kept:
            with _unless_the_cache_can_only_be_read():
                self._preparation.cache.note_agreement(prepared.name, prepared.manifest, agreement.to_json())
            logger.info("TensorRT engine %s: %s", prepared.name, agreement)
        if agreement.least < self._threshold:
            raise DisagreementError(
                f"TensorRT engine {prepared.name} is not used: {agreement}, expected {100 * self._threshold:g} %; "
                f"`seg_perception build-engine {self.info.path} --precision "
                f"{prepared.manifest['key']['options']['precision']} --check-data DIR_OR_BAG` names the layers"
            )


@contextlib.contextmanager
def _unless_the_cache_can_only_be_read() -> Iterator[None]:
    """What is kept spares the next start some seconds; without, this one is as good."""
    try:
        yield
    except OSError as error:
        logger.warning("the next start has to do this again: %s", error)
