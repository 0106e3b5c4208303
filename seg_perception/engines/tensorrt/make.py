"""The engine `tensorrt` as a robot runs it: TensorRT where it works, another engine until it does and where it does not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from seg_perception.engines.base import Engine, NoEngineError
from seg_perception.engines.changeover import ChangeoverEngine
from seg_perception.engines.tensorrt.agreement import Agreement, compare_engines
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.build import model_precision
from seg_perception.engines.tensorrt.cache import EngineCache, default_folder
from seg_perception.engines.tensorrt.cuda import Cuda
from seg_perception.engines.tensorrt.engine import TensorRtEngine
from seg_perception.engines.tensorrt.options import BuildOptions, TensorRtSettings, check_file, required_precision
from seg_perception.engines.tensorrt.prepare import Preparation
from seg_perception.engines.tensorrt.progress import BuildProgress, ProgressCallback
from seg_perception.engines.tensorrt.stored_images import stored_images
from seg_perception.model.model_file import ModelInfo

logger = logging.getLogger(__name__)

MakeEngine = Callable[
    [], Engine
]  # another engine for the same model and batch, not open; NoEngineError where there is none


def make_engine(
    info: ModelInfo,
    threads: int,
    precision: str,
    batch_size: int,
    *,
    tensorrt: TensorRt,
    cuda: Cuda,
    settings: TensorRtSettings,
    on_progress: ProgressCallback,
    fallback: MakeEngine,
    reference: MakeEngine,
) -> Engine:
    """An engine of TensorRT that falls back on another, not open.

    Args:
        info, threads, precision, batch_size: see `Engine`.
        tensorrt, cuda: what it runs on.
        settings: what the robot's configuration says.
        on_progress: told how far a build is.
        fallback: the engine that serves meanwhile, and where TensorRT fails.
        reference: the engine that TensorRT's is compared with.

    Raises:
        EngineError: there is no driver.
        ValueError: an argument is outside its range, the model cannot give the precision, or the cache is not the user's own.
        OSError: the cache cannot be written.
    """
    file_precision = model_precision(info.path)
    several = info.geometry is not None and info.batch_size is None
    options = BuildOptions(
        precision=settings.precision or required_precision(precision, file_precision),
        max_batch=max(batch_size, settings.max_batch) if several else batch_size,
        workspace_mb=settings.workspace_mb,
        optimization_level=settings.optimization_level,
        dla_core=settings.dla_core,
        keep_fp32=settings.keep_fp32,
        timeout_s=settings.timeout_s,
    )
    check_file(options.precision, file_precision, info.path)
    exact = replace(options, precision="fp32", keep_fp32=())
    stop = threading.Event()
    newest = _Newest(on_progress)
    preparation = Preparation(
        EngineCache(Path(settings.cache).expanduser() if settings.cache else default_folder(), settings.cache_limit_mb),
        tensorrt,
        cuda,
        newest,
        stop.is_set,
        background=settings.while_building == "fallback",
    )
    wanted = TensorRtEngine(
        info,
        threads,
        precision,
        batch_size,
        tensorrt=tensorrt,
        cuda=cuda,
        preparation=preparation,
        choices=[options] if file_precision != "float32" or options.precision == "fp32" else [options, exact],
        check=StoredImagesCheck(reference) if settings.threshold else no_check,
        threshold=settings.threshold,
    )
    return ChangeoverEngine(wanted, fallback, settings.while_building, stop, newest.spoken)


class _Newest:
    """Hands progress on and keeps the newest, for whoever asks."""

    def __init__(self, on_progress: ProgressCallback) -> None:
        self._on_progress = on_progress
        self._progress: BuildProgress | None = None

    def __call__(self, progress: BuildProgress) -> None:
        self._progress = progress
        self._on_progress(progress)

    def spoken(self) -> str:
        return "TensorRT is ready" if self._progress is None else f"the TensorRT engine is built: {self._progress}"


@dataclass(frozen=True)
class StoredImagesCheck:
    """How far an engine agrees with another on the images that come with the package.

    Attributes:
        reference: makes the other engine.
    """

    reference: MakeEngine

    def __call__(self, engine: Engine) -> Agreement | None:
        try:
            images = list(stored_images())
            with self.reference() as reference:
                return compare_engines(reference, engine, images)
        except (FileNotFoundError, NoEngineError) as error:
            logger.warning("the TensorRT engine is used unchecked: %s", error)
        return None


def no_check(engine: Engine) -> Agreement | None:
    """For who does not want to know."""
    return None
