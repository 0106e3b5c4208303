"""Creates the engine that was asked for, or chooses one.

`auto` follows a stated order instead of a measurement, so that a robot runs the same engine after every start:

1. tensorrt, where it and cuda-python are installed and there is an NVIDIA GPU with its driver;
2. onnxruntime, where its build can use an NVIDIA GPU;
3. openvino, where it is installed, on x86 processors (where it is the quicker of the two on the CPU);
4. onnxruntime;
5. openvino, on other processors without onnxruntime.
"""

from __future__ import annotations

import importlib.util
import logging
import platform

from seg_perception.engines.base import PRECISIONS, Engine, EngineError, NoEngineError
from seg_perception.engines.tensorrt.api import TensorRt, installed
from seg_perception.engines.tensorrt.cuda_runtime import CudaRuntime
from seg_perception.engines.tensorrt.options import TensorRtSettings
from seg_perception.engines.tensorrt.progress import ProgressCallback, ProgressLog
from seg_perception.model.model_file import ModelInfo

logger = logging.getLogger(__name__)

PRECISION_CHOICES = ("auto", *PRECISIONS)
ENGINE_KINDS = ("auto", "tensorrt", "onnxruntime", "openvino")
_X86 = ("x86_64", "AMD64", "i686", "i386")


def create_engine(
    kind: str,
    info: ModelInfo,
    threads: int = 0,
    precision: str = "f32",
    batch_size: int = 1,
    settings: TensorRtSettings | None = None,
    on_progress: ProgressCallback | None = None,
) -> Engine:
    """An engine for the model, not yet open.

    Args:
        kind: one of ENGINE_KINDS.
        info: the model.
        threads, batch_size: see `Engine`.
        precision: one of PRECISION_CHOICES; see `Engine`, and `choose_precision` for auto.
        settings: of TensorRT; None: its defaults.
        on_progress: told how far TensorRT's build is while the engine is opened; None: log lines.

    Raises:
        ValueError: no such kind, or an argument outside its range.
        EngineError: `auto` and no engine is installed, or `tensorrt` without TensorRT, cuda-python or a GPU.
    """
    if kind == "auto":
        kind, reason = choose_engine()
        logger.info("engine auto: %s (%s)", kind, reason)
    asked_precision = precision
    if precision == "auto":
        precision, reason = choose_precision(kind)
        logger.info("precision auto: %s (%s)", precision, reason)
    if kind == "onnxruntime":
        from seg_perception.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(info, threads, precision, batch_size)
    if kind == "openvino":
        from seg_perception.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(info, threads, precision, batch_size)
    if kind == "tensorrt":
        from seg_perception.engines.tensorrt.make import make_engine

        return make_engine(
            info,
            threads,
            precision,
            batch_size,
            tensorrt=TensorRt.load(),
            cuda=CudaRuntime.load(),
            settings=settings or TensorRtSettings(),
            on_progress=on_progress or ProgressLog(logger.info),
            fallback=lambda: _fallback(info, threads, asked_precision, batch_size),
            reference=lambda: create_engine(_choose_reference(), info, threads, "f32", batch_size),
        )
    raise ValueError(f"engine is {kind!r}, expected one of: {', '.join(ENGINE_KINDS)}")


def choose_engine() -> tuple[str, str]:
    """The kind that `auto` stands for on this machine, and why.

    Raises:
        NoEngineError: no engine is installed.
    """
    found, reason = _tensorrt_and_device()
    if found:
        return "tensorrt", reason
    if reason:
        logger.info("%s; left out of the choice", reason)
    return _choose_without_tensorrt()


def _tensorrt_and_device() -> tuple[bool, str]:
    """Whether TensorRT can run here, and how one knows; an empty reason where it is not even installed."""
    names = installed()
    if not names:
        return False, ""
    try:
        cuda = CudaRuntime.load()
        if not cuda.device_count():
            return False, f"{names[0]} is installed, but {cuda.why_no_device()}"
        return True, f"{names[0]} is installed, and {cuda.device(0).name} is there"
    except EngineError as error:
        return False, f"{names[0]} is installed, but {error}"


def _choose_without_tensorrt() -> tuple[str, str]:
    has_onnxruntime = _installed("onnxruntime")
    has_openvino = _installed("openvino")
    if has_onnxruntime and _onnxruntime_has_cuda():
        return "onnxruntime", "its CUDA build is installed"
    if has_openvino and platform.machine() in _X86:
        return "openvino", "installed, and the quicker one on x86 processors"
    if has_onnxruntime:
        reason = "openvino is not installed" if not has_openvino else f"the processor is {platform.machine()}, not x86"
        return "onnxruntime", reason
    if has_openvino:
        return "openvino", "onnxruntime is not installed"
    raise NoEngineError(
        "no inference engine is installed; install one with `pip install openvino` or `pip install onnxruntime`"
    )


def choose_precision(kind: str) -> tuple[str, str]:
    """The precision that `auto` stands for in an engine of this kind on this machine, and why.

    Short floats where they are known to cost less than 0.3 points of mIoU (`benchmarks/precision.py`) and to be quicker:
    bfloat16 in OpenVINO on processors that multiply it themselves, half floats in TensorRT.
    """
    if kind == "tensorrt":
        return "fast", "half floats, which are compared with the model before they are used"
    if kind != "openvino":
        return "f32", f"{kind} on this machine gains nothing that was measured"
    from seg_perception.engines.openvino import has_native_bfloat16

    if has_native_bfloat16():
        return "fast", "the processor has bfloat16 of its own"
    return "f32", "the processor has no bfloat16 of its own"


def _fallback(info: ModelInfo, threads: int, precision: str, batch_size: int) -> Engine:
    """What serves while TensorRT builds, and where it fails."""
    kind, reason = _choose_without_tensorrt()
    logger.info("beside tensorrt: %s (%s)", kind, reason)
    return create_engine(kind, info, threads, precision, batch_size)


def _choose_reference() -> str:
    """ONNX Runtime defines what a model file computes; OpenVINO stands in where it is not installed."""
    return "onnxruntime" if _installed("onnxruntime") else _choose_without_tensorrt()[0]


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _onnxruntime_has_cuda() -> bool:
    try:
        import onnxruntime
    except ImportError as error:
        logger.warning("onnxruntime is installed but does not import (%s); left out of the choice", error)
        return False
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
