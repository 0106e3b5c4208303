"""From a model to an engine that may be run: out of the cache, or built now, once for all processes of this machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.build import BuildRequest, model_precision
from seg_perception.engines.tensorrt.build_process import build_in_process
from seg_perception.engines.tensorrt.cache import EngineCache
from seg_perception.engines.tensorrt.cuda import Cuda
from seg_perception.engines.tensorrt.key import EngineKey
from seg_perception.engines.tensorrt.lock import Holder
from seg_perception.engines.tensorrt.module import TensorRtError
from seg_perception.engines.tensorrt.options import BuildOptions, check_file
from seg_perception.engines.tensorrt.progress import ProgressCallback

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedEngine:
    """An engine's bytes, from a place that nobody else can write, with their digest checked.

    Attributes:
        name: of the entry in the cache.
        plan: the serialized engine.
        manifest: see `cache.Entry`.
        built: whether it was built now.
    """

    name: str
    plan: bytes
    manifest: dict[str, Any]
    built: bool


@dataclass(frozen=True)
class Preparation:
    """Finds or builds engines.

    Attributes:
        cache: where they are kept.
        tensorrt, cuda: what they are for.
        on_progress: told how far a build is.
        stopped: True ends a build in hand.
        background: whether a build gives way to everything else, as while another engine serves.
    """

    cache: EngineCache
    tensorrt: TensorRt
    cuda: Cuda
    on_progress: ProgressCallback
    stopped: Callable[[], bool] = lambda: False
    background: bool = False

    def engine(self, model: Path, options: BuildOptions, outputs: tuple[str, ...] = ()) -> PreparedEngine:
        """The engine for this model and machine.

        Where another process is building the very same engine, this waits for it and says so.

        Args:
            model: the deployment model, checked by `read_model_info`.
            options: how it is built.
            outputs: inner tensors to have as outputs, too; those that the network has.

        Raises:
            TensorRtError: no device, the build failed, or its result cannot be kept.
            ValueError: the model cannot give this precision.
        """
        check_file(options.precision, model_precision(model), model)
        if not self.cuda.device_count() and not self.tensorrt.builds_without_gpu:
            raise TensorRtError(f"{self.tensorrt.name} needs a GPU to build for: {self.cuda.why_no_device()}")
        key = replace(EngineKey.of(model, self.tensorrt, self.cuda, options), outputs=outputs)
        name = key.name(model)
        found = self.cache.find(name, key)
        if found.plan is not None:
            logger.info("TensorRT engine %s comes from the cache", name)
            return PreparedEngine(name, found.plan, found.manifest, built=False)
        try:
            with self.cache.lock(name, _tell_of, self.stopped):
                found = self.cache.find(name, key)
                if found.plan is not None:
                    logger.info("TensorRT engine %s was built by another process meanwhile", name)
                    return PreparedEngine(name, found.plan, found.manifest, built=False)
                logger.info("building TensorRT engine %s: %s", name, found.reason)
                return self._build(model, options, outputs, key, name)
        except OSError as error:  # a full disk, a folder that may only be read, another process that never ends
            raise TensorRtError(
                f"TensorRT engine {name} cannot be made in {self.cache.folder}: {error}; see to that, or set another "
                "folder with SEG_PERCEPTION_CACHE"
            ) from error

    def _build(
        self, model: Path, options: BuildOptions, outputs: tuple[str, ...], key: EngineKey, name: str
    ) -> PreparedEngine:
        start = time.monotonic()
        out = self.cache.partial(name)
        timing_in, timing_out = out.with_suffix(".timing-in.partial"), out.with_suffix(".timing-out.partial")
        times = self.tensorrt.has_timing_cache
        kept = self.cache.kept(key.timing_name()) if times else b""
        if kept:
            timing_in.write_bytes(kept)
        request = BuildRequest(
            model=model.resolve(),
            options=options,
            module=self.tensorrt.name,
            out=out,
            timing_in=timing_in if kept else None,
            timing_out=timing_out if times else None,
            outputs=outputs,
            background=self.background,
        )
        try:
            marked = build_in_process(request, self.on_progress, self.stopped)
            build_s = time.monotonic() - start
            if timing_out.exists():
                self.cache.keep(key.timing_name(), timing_out.read_bytes())
            origin = {"model": model.name, "build_s": round(build_s, 1), "marked": marked}
            found = self.cache.store(name, key, out, origin)
        finally:
            for path in (out, timing_in, timing_out):
                path.unlink(missing_ok=True)
        assert found.plan is not None
        logger.info("built TensorRT engine %s in %.0f s, %.1f MB", name, build_s, len(found.plan) / 1e6)
        return PreparedEngine(name, found.plan, found.manifest, built=True)


def _tell_of(holder: Holder) -> None:
    logger.info("waiting for %s, which builds this engine", holder)
