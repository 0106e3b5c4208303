"""From a camera image to its segmentation: resize, infer, paint or enlarge the result to camera size. No ROS in here."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from types import TracebackType

import numpy as np

from seg_perception.engines.base import EngineError, MaskRequest
from seg_perception.engines.select import create_engine
from seg_perception.engines.tensorrt.options import TensorRtSettings
from seg_perception.engines.tensorrt.progress import ProgressCallback
from seg_perception.model.model_file import ModelInfo, read_model_info
from seg_perception.network_size import enlarged, fill_network_input
from seg_perception.painting import Painted, Painter

logger = logging.getLogger(__name__)

STAGES = ("preprocess", "infer", "paint")
MOST_PAINTING_THREADS = 4  # painting takes a few milliseconds; more threads would wait for each other
_WARM_UP_RUNS = 2  # the first run allocates, the second shows the steady time


@dataclass
class Segmentation:
    """The result for one image, at the image's own size.

    Attributes:
        labels: uint8 [H, W], class index.
        confidence: uint8 [H, W], probability of that class x 255; None where not asked for.
        superpixels: uint16 [H, W], raster index in the model's superpixel grid; None where not asked for or where the
            model has none.
        class_logits: float [R, C, K], the superpixels' class scores; None for models of the form `labels`. The engine's own,
            until the next image.
        timings_ms: milliseconds spent in each of STAGES.
    """

    labels: np.ndarray
    confidence: np.ndarray | None = None
    superpixels: np.ndarray | None = None
    class_logits: np.ndarray | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def total_ms(self) -> float:
        return sum(self.timings_ms.values())


class Segmenter:
    """Segments single images with one deployment model.

    Use it as a context manager, or call `open` and `close`. One thread at a time may call it; which thread does not
    matter. Every result owns its arrays.

    Args:
        model_path: the deployment model.
        engine: one of `seg_perception.engines.select.ENGINE_KINDS`.
        threads: CPU threads for one inference, and then for painting; 0 leaves the choice to the engine.
        precision: "f32" or "fast", see `Engine`; "auto", see `choose_precision`.
        settings: of the engine tensorrt; None: its defaults.
        on_progress: told how far a build of TensorRT is; None: log lines.

    Raises:
        ModelFileError: the file cannot serve as the deployment model.
        EngineError: no engine is installed.
        ValueError: an argument is outside its range.
    """

    def __init__(
        self,
        model_path: str | Path,
        engine: str = "auto",
        threads: int = 0,
        precision: str = "f32",
        settings: TensorRtSettings | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> None:
        self.info: ModelInfo = read_model_info(model_path)
        self._engine = create_engine(engine, self.info, threads, precision, settings=settings, on_progress=on_progress)
        self._chosen = ", precision chosen by auto" if precision == "auto" else ""
        self._input = np.zeros((1, *self.info.input_size, 3), np.uint8)  # (1, H, W, 3)
        self._batch = self._input  # grows to what `segment_together` needs
        self._painter: Painter | None = None
        if self.info.geometry is not None:
            usable = len(os.sched_getaffinity(0))
            self._painter = Painter(self.info.geometry, min(threads or usable, usable, MOST_PAINTING_THREADS))
        self._open = False

    @property
    def engine_name(self) -> str:
        """Which engine runs, such as "openvino"."""
        return self._engine.name

    @property
    def is_open(self) -> bool:
        """Whether it can segment: opened, and neither closed nor without its device since."""
        return self._open

    @property
    def engine_description(self) -> str:
        """Version, device and settings of the engine in one line; complete once it is open."""
        return self._engine.description + self._chosen

    @property
    def holds_device(self) -> bool:
        """Whether it holds memory of a device besides the processor."""
        return self._open and self._engine.holds_device

    @property
    def best_batch(self) -> int:
        """Most images that `segment_together` takes; 1 where it gains nothing."""
        return self._engine.best_batch if self._open else 1

    @property
    def device_memory(self) -> tuple[int, int] | None:
        """Memory of the device that it holds some of: free and all, bytes; None where it holds none."""
        return self._engine.device_memory if self._open else None

    @property
    def engine_problem(self) -> str:
        """Why another engine runs than was asked for, in one line; empty where that is not so."""
        return self._engine.problem

    def open(self) -> None:
        """Load the model. Raises EngineError where the engine is not installed or cannot load it."""
        self._engine.open()
        if self._painter is not None:
            self._painter.warm_up()
        self._open = True

    def close(self) -> None:
        """Free the model; `open` loads it again."""
        self._open = False
        self._engine.close()
        if self._painter is not None:
            self._painter.close()

    def release_device(self) -> None:
        """Give back all memory of a device besides the processor, for while nobody needs masks; `open` takes it again.

        An engine that holds none stays loaded, so that `open` returns at once.
        """
        self._open = False
        self._engine.release_device()

    def __enter__(self) -> Segmenter:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def warm_up(self) -> float:
        """Run the model on a black image until it has settled; returns the last run's milliseconds."""
        black = np.zeros((*self.info.input_size, 3), np.uint8)
        elapsed_ms = 0.0
        for _ in range(_WARM_UP_RUNS):
            elapsed_ms = self.segment(black).total_ms
        return elapsed_ms

    def __call__(
        self, image_rgb: np.ndarray, want_confidence: bool = True, want_superpixels: bool = True
    ) -> Segmentation:
        return self.segment(image_rgb, want_confidence, want_superpixels)

    def segment(
        self,
        image: np.ndarray,
        want_confidence: bool = True,
        want_superpixels: bool = True,
        on_labels: Callable[[Segmentation], None] | None = None,
        size: tuple[int, int] | None = None,
        smooth: Callable[[dict[str, np.ndarray], np.ndarray], dict[str, np.ndarray]] | None = None,
        want_labels: bool = True,
        bgr: bool = False,
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: uint8 [H, W, 3], any size; rows may be padded. It is only read.
            want_confidence, want_superpixels: leave out what nobody needs; it is not computed.
            on_labels: called with labels and superpixels before the confidence is made; what it takes counts in no stage.
            size: (H, W) of the result; None: the image's.
            smooth: for the form `association`: (outputs of one image, the network's input [H, W, 3]) -> the outputs to paint.
                They are then painted on the processor.
            want_labels: false: they are empty, [0, 0], unless a device paints them anyway.
            bgr: whether the image is blue, green, red; else red, green, blue.

        Raises:
            ValueError: not such an array.
            EngineError: not open, or the engine failed.
        """
        _check_image(image)
        if not self._open:
            raise EngineError("the segmenter is not open; call open() first")
        start = perf_counter()
        fill_network_input(image, self._input[0], bgr)
        prepared = perf_counter()
        size = size or (image.shape[0], image.shape[1])
        want_superpixels = want_superpixels and self.info.has_superpixels
        if smooth is None or self._painter is None:
            painted = self._engine.infer_painted(self._input, size, want_confidence, want_superpixels)
            if painted is not None:
                return self._painted_by_the_engine(painted, prepared - start, perf_counter() - prepared, on_labels)
        outputs = self._engine.infer(self._input)
        inferred = perf_counter()
        if smooth is not None and self._painter is not None:
            smoothed = smooth({name: array[0] for name, array in outputs.items()}, self._input[0])
            outputs = {name: array[None] for name, array in smoothed.items()}
        make = self._enlarge if self._painter is None else self._paint
        timings_ms = {"preprocess": 1e3 * (prepared - start), "infer": 1e3 * (inferred - prepared), "paint": 0.0}
        if on_labels is None:
            result = make(outputs, size, want_labels, want_confidence, want_superpixels)
            timings_ms["paint"] = 1e3 * (perf_counter() - inferred)
            result.timings_ms = timings_ms
            return result
        result = make(outputs, size, want_labels, False, want_superpixels)
        timings_ms["paint"] = 1e3 * (perf_counter() - inferred)
        result.timings_ms = timings_ms
        on_labels(result)
        if want_confidence:
            resumed = perf_counter()
            result.confidence = make(outputs, size, False, True, False).confidence
            timings_ms["paint"] += 1e3 * (perf_counter() - resumed)
        return result

    def segment_together(
        self, images: Sequence[np.ndarray], requests: Sequence[MaskRequest], bgr: Sequence[bool] = ()
    ) -> list[Segmentation] | None:
        """Segment several images in one run of the engine, for an engine that gains by it.

        Args:
            images: see `segment`; at most `best_batch`.
            requests: what is wanted of each.
            bgr: whether each is blue first; empty: none is.

        Returns:
            the results, in order, each with the time of all together; None where the engine does not do that: then one by one.

        Raises:
            ValueError, EngineError: as `segment`.
        """
        for image in images:
            _check_image(image)
        start = perf_counter()
        count = len(images)
        if self._batch.shape[0] < count:
            self._batch = np.zeros((count, *self.info.input_size, 3), np.uint8)  # (B, H, W, 3)
        for image, target, is_bgr in zip(images, self._batch, bgr or [False] * count, strict=False):
            fill_network_input(image, target, is_bgr)
        prepared = perf_counter()
        wanted = [
            replace(request, superpixels=request.superpixels and self.info.has_superpixels) for request in requests
        ]
        results = self._engine.infer_painted_batch(self._batch[:count], wanted)
        if results is None:
            return None
        times = (prepared - start, perf_counter() - prepared)
        return [self._painted_by_the_engine(painted, *times, None) for painted in results]

    def _painted_by_the_engine(
        self,
        painted: Painted,
        preprocess_s: float,
        infer_s: float,
        on_labels: Callable[[Segmentation], None] | None,
    ) -> Segmentation:
        """What the engine's device has painted; that counts as inference, in which it cannot be told apart."""
        assert painted.labels is not None
        timings_ms = {"preprocess": 1e3 * preprocess_s, "infer": 1e3 * infer_s, "paint": 0.0}
        result = Segmentation(painted.labels, None, painted.superpixels, painted.class_logits, timings_ms)
        if on_labels is not None:
            on_labels(result)
        result.confidence = painted.confidence
        return result

    def _paint(
        self, outputs: dict[str, np.ndarray], size: tuple[int, int], labels: bool, confidence: bool, superpixels: bool
    ) -> Segmentation:
        """Of the form `association`: painted at `size` (H, W)."""
        assert self._painter is not None
        class_logits = outputs["class_logits"][0]
        try:
            classes = self.info.num_classes
            if class_logits.shape[-1] != classes:  # a file may leave sizes open
                raise ValueError(f"scores of {class_logits.shape[-1]} classes, and it names {classes}")
            if not (labels or confidence or superpixels):
                return Segmentation(_NOTHING, class_logits=class_logits)
            painted = self._painter.paint(
                outputs["association"][0], class_logits, size, labels, confidence, superpixels
            )
        except ValueError as error:
            raise EngineError(f"model {self.info.name} gave other outputs than its file declares: {error}") from error
        return Segmentation(
            _NOTHING if painted.labels is None else painted.labels,
            painted.confidence,
            painted.superpixels,
            class_logits,
        )

    def _enlarge(
        self, outputs: dict[str, np.ndarray], size: tuple[int, int], labels: bool, confidence: bool, superpixels: bool
    ) -> Segmentation:
        """Of the form `labels`: every pixel of `size` (H, W) takes what the nearest one of the network's has."""
        return Segmentation(
            enlarged(outputs, "labels", self.info, size) if labels else _NOTHING,
            enlarged(outputs, "confidence", self.info, size) if confidence else None,
            # The ids fit 16 bits: read_model_info refuses larger grids.
            enlarged(outputs, "superpixels", self.info, size, np.uint16) if superpixels else None,
        )


_NOTHING = np.empty((0, 0), np.uint8)  # labels of a part of the work that makes none


def _check_image(image_rgb: np.ndarray) -> None:
    if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8 or image_rgb.size == 0:
        raise ValueError(f"image is {image_rgb.dtype} {list(image_rgb.shape)}, expected uint8 [H, W, 3]")
