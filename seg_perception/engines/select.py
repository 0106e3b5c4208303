"""Creates the engine that was asked for, or chooses one.

`auto` follows a stated order instead of a measurement, so that a robot runs the same engine after every start:

1. onnxruntime, where its build can use an NVIDIA GPU;
2. openvino, where it is installed, on x86 processors (where it is the quicker of the two on the CPU);
3. onnxruntime;
4. openvino, on other processors without onnxruntime.
"""

from __future__ import annotations

import importlib.util
import logging
import platform

from seg_perception.engines.base import PRECISIONS, Engine, EngineError
from seg_perception.model.model_file import ModelInfo

logger = logging.getLogger(__name__)

PRECISION_CHOICES = ("auto", *PRECISIONS)
ENGINE_KINDS = ("auto", "onnxruntime", "openvino")
_X86 = ("x86_64", "AMD64", "i686", "i386")


def create_engine(kind: str, info: ModelInfo, threads: int = 0, precision: str = "f32", batch_size: int = 1) -> Engine:
    """An engine for the model, not yet open.

    Args:
        kind: one of ENGINE_KINDS.
        info: the model.
        threads, batch_size: see `Engine`.
        precision: one of PRECISION_CHOICES; see `Engine`, and `choose_precision` for auto.

    Raises:
        ValueError: no such kind, or an argument outside its range.
        EngineError: `auto`, and no engine is installed.
    """
    if kind == "auto":
        kind, reason = choose_engine()
        logger.info("engine auto: %s (%s)", kind, reason)
    if precision == "auto":
        precision, reason = choose_precision(kind)
        logger.info("precision auto: %s (%s)", precision, reason)
    if kind == "onnxruntime":
        from seg_perception.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(info, threads, precision, batch_size)
    if kind == "openvino":
        from seg_perception.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(info, threads, precision, batch_size)
    raise ValueError(f"engine is {kind!r}, expected one of: {', '.join(ENGINE_KINDS)}")


def choose_engine() -> tuple[str, str]:
    """The kind that `auto` stands for on this machine, and why.

    Raises:
        EngineError: no engine is installed.
    """
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
    raise EngineError(
        "no inference engine is installed; install one with `pip install openvino` or `pip install onnxruntime`"
    )


def choose_precision(kind: str) -> tuple[str, str]:
    """The precision that `auto` stands for in an engine of this kind on this machine, and why.

    Short floats where they are known to cost less than 0.3 points of mIoU (`benchmarks/precision.py`) and to be quicker:
    bfloat16 in OpenVINO on processors that multiply it themselves.
    """
    if kind != "openvino":
        return "f32", f"{kind} on this machine gains nothing that was measured"
    from seg_perception.engines.openvino import has_native_bfloat16

    if has_native_bfloat16():
        return "fast", "the processor has bfloat16 of its own"
    return "f32", "the processor has no bfloat16 of its own"


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _onnxruntime_has_cuda() -> bool:
    try:
        import onnxruntime
    except ImportError as error:
        logger.warning("onnxruntime is installed but does not import (%s); left out of the choice", error)
        return False
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
