"""What the GPU does with a model: built, compared, timed by the device's own clock, and given back. A report to send."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from seg_perception.check.finding import Finding
from seg_perception.engines.base import EngineError, MaskRequest
from seg_perception.engines.onnxruntime import OnnxRuntimeEngine
from seg_perception.engines.tensorrt.agreement import DEFAULT_THRESHOLD, compare_engines
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.build import model_precision
from seg_perception.engines.tensorrt.cache import EngineCache
from seg_perception.engines.tensorrt.cuda import Cuda
from seg_perception.engines.tensorrt.cuda_runtime import CudaRuntime
from seg_perception.engines.tensorrt.engine import TensorRtEngine
from seg_perception.engines.tensorrt.make import no_check
from seg_perception.engines.tensorrt.options import BuildOptions, required_precision
from seg_perception.engines.tensorrt.prepare import Preparation
from seg_perception.engines.tensorrt.progress import ProgressLog
from seg_perception.engines.tensorrt.stored_images import stored_images
from seg_perception.model.model_file import ModelFileError, ModelInfo, read_model_info
from seg_perception.painting import Painter

GROUP = "GPU self-test"
RUNS = 100
CAMERA = (480, 640)  # (H, W) that is painted
_LEAK = 8 << 20  # bytes by which free memory may shrink between two openings: other programs take and give, too


def gpu_findings(
    model: Path,
    cache: Path,
    load_tensorrt: Callable[[], TensorRt] = TensorRt.load,
    load_cuda: Callable[[], Cuda] = CudaRuntime.load,
) -> Iterator[Finding]:
    """Everything about one model on this machine's first GPU; ends at the first thing that does not work.

    Args:
        model: the deployment model.
        cache: where its engine is looked for and kept.
        load_tensorrt, load_cuda: what it runs on.
    """
    try:
        cuda = load_cuda()
        if not cuda.device_count():
            raise EngineError(cuda.why_no_device())
    except EngineError as error:
        yield _problem("device", str(error), "nothing can be tried", "seg_perception check   (what runs without a GPU)")
        return
    try:
        cuda.set_device(0)
        yield from _device(cuda)
        tensorrt = load_tensorrt()
        yield Finding(GROUP, "TensorRT", f"{tensorrt.name} {tensorrt.version}")
        yield from _engine(read_model_info(model), tensorrt, cuda, EngineCache(cache))
    except (EngineError, ModelFileError, ValueError, OSError) as error:
        repair = f"send this report; until then: engine:=onnxruntime, or seg_perception build-engine {model} --precision fp32"
        yield _problem("run", str(error), "the node falls back on another engine", repair)


def _device(cuda: Cuda) -> Iterator[Finding]:
    found = cuda.device(0)
    capability = ".".join(str(number) for number in found.compute_capability)
    kind = "integrated, memory mapped" if found.integrated else "memory of its own, pinned copies"
    yield Finding(
        GROUP,
        "device",
        f"{found.name}, compute capability {capability}, {found.multiprocessors} multiprocessors, "
        f"{found.total_memory / 2**30:.1f} GiB, {kind}",
    )
    yield Finding(
        GROUP, "CUDA", f"driver {_version(cuda.driver_version())}, runtime {_version(cuda.runtime_version())}"
    )


def _engine(info: ModelInfo, tensorrt: TensorRt, cuda: Cuda, cache: EngineCache) -> Iterator[Finding]:
    options = BuildOptions(precision=required_precision("fast", model_precision(info.path)))
    preparation = Preparation(cache, tensorrt, cuda, ProgressLog())
    start = time.monotonic()
    prepared = preparation.engine(info.path, options)
    how = f"built in {time.monotonic() - start:.0f} s" if prepared.built else "from the cache"
    yield Finding(GROUP, "build", f"{info.name}, {options.precision}, {how}, {len(prepared.plan) / 1e6:.1f} MB")

    def make(graphs: bool) -> TensorRtEngine:
        return TensorRtEngine(
            info,
            0,
            "f32",
            1,
            tensorrt=tensorrt,
            cuda=cuda,
            preparation=preparation,
            choices=[options],
            check=no_check,
            threshold=0.0,
            graphs=graphs,
        )

    free = []  # device memory: before, and after each of two openings
    free.append(cuda.memory()[0])
    engine = make(graphs=True)
    with engine:
        yield Finding(GROUP, "memory", f"{(free[0] - cuda.memory()[0]) / 2**20:.0f} MiB of the device while it runs")
        yield from _agreement(info, engine)
        yield from _painting(info, engine)
        yield from _latency(engine, "with CUDA graphs" if engine.graphed else "CUDA graphs cannot be recorded")
    free.append(cuda.memory()[0])
    engine = make(graphs=False)
    with engine:
        yield from _latency(engine, "without CUDA graphs")
    free.append(cuda.memory()[0])
    lost = free[1] - free[2]
    yield Finding(
        GROUP,
        "memory after",
        f"{(free[0] - free[1]) / 2**20:.0f} MiB stay with CUDA's libraries, "
        f"{max(lost, 0) / 2**20:.0f} MiB more after another run",
        "ok" if lost <= _LEAK else "warning",
        "" if lost <= _LEAK else "memory is lost at every start, or another program took some",
        "" if lost <= _LEAK else "send this report",
    )


def _agreement(info: ModelInfo, engine: TensorRtEngine) -> Iterator[Finding]:
    with OnnxRuntimeEngine(info, 0, "f32", 1) as reference:
        agreement = compare_engines(reference, engine, stored_images())
    if agreement.least >= DEFAULT_THRESHOLD:
        yield Finding(GROUP, "agreement", str(agreement))
        return
    repair = f"seg_perception build-engine {info.path} --check-data DIR_OR_BAG   (names the layers)"
    yield _problem("agreement", str(agreement), "the node does not use this engine", repair)


def _painting(info: ModelInfo, engine: TensorRtEngine) -> Iterator[Finding]:
    if info.geometry is None:
        yield Finding(GROUP, "painting", "in the model (form labels)")
        return
    if not engine.paints:
        yield Finding(
            GROUP, "painting", engine.problem, "warning", "it takes longer", "pip install 'seg_perception[cuda]'"
        )
        return
    image = np.random.default_rng(0).integers(0, 256, (1, *info.input_size, 3), np.uint8)
    outputs = {name: array.copy() for name, array in engine.infer(image).items()}
    expected = Painter(info.geometry).paint(outputs["association"][0], outputs["class_logits"][0], CAMERA)
    came = engine.infer_painted(image, CAMERA, True, True)
    if came is None:
        raise EngineError(engine.problem)
    assert came.labels is not None
    assert expected.labels is not None
    share = float(np.equal(came.labels, expected.labels).mean())
    value = f"labels {100 * share:.4g} % as on the processor, at {CAMERA[1]}x{CAMERA[0]}"
    if share > 0.999:  # the two sum up in another order, which decides ties
        yield Finding(GROUP, "painting", value)
    else:
        yield _problem("painting", value, "masks are wrong", "send this report; until then: engine:=onnxruntime")


def _latency(engine: TensorRtEngine, how: str) -> Iterator[Finding]:
    image = np.zeros((1, *engine.info.input_size, 3), np.uint8)
    size = CAMERA if engine.paints else None
    on_device = engine.device_ms(image, RUNS, None if size is None else [MaskRequest(size)])
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        if size is None or engine.infer_painted(image, size, True, True) is None:
            engine.infer(image)
        times.append(1e3 * (time.perf_counter() - start))
    painted = f", painted at {CAMERA[1]}x{CAMERA[0]}" if size else ""
    yield Finding(
        GROUP,
        "latency",
        f"{how}: {_spread(on_device)} on the device, {_spread(times)} for the caller ({RUNS} images{painted})",
    )


def _spread(times_ms: list[float]) -> str:
    return f"{np.median(times_ms):.2f} ms (p99 {np.percentile(times_ms, 99):.2f})"


def _problem(name: str, value: str, why: str, repair: str) -> Finding:
    return Finding(GROUP, name, value, "problem", why, repair)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
