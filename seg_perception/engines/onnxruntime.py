"""ONNX Runtime: NVIDIA GPU where its CUDA build is installed, otherwise CPU."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from seg_perception.engines.base import Engine, EngineError, last_line
from seg_perception.model.model_file import ModelInfo
from seg_perception.model.onnx_header import read_onnx_header

if TYPE_CHECKING:
    import onnxruntime

logger = logging.getLogger(__name__)

_ERRORS_ONLY = 3  # onnxruntime's log level


class OnnxRuntimeEngine(Engine):
    """Runs the model in ONNX Runtime; see `Engine` for arguments and calls."""

    name = "onnxruntime"

    def __init__(self, info: ModelInfo, threads: int = 0, precision: str = "f32", batch_size: int = 1) -> None:
        super().__init__(info, threads, precision, batch_size)
        self._session: onnxruntime.InferenceSession | None = None
        self._description = self.name

    @property
    def description(self) -> str:
        return self._description

    def open(self) -> None:
        if self._session is not None:
            return
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(
                f"engine onnxruntime is not usable: {last_line(error)}; "
                "install it with `pip install onnxruntime` or choose another engine"
            ) from error
        wanted = _providers(onnxruntime.get_available_providers(), self.precision)
        try:
            self._session = onnxruntime.InferenceSession(
                str(self.info.path), self._session_options(onnxruntime), providers=wanted
            )
        except Exception as error:  # onnxruntime's own errors share no other base class
            raise EngineError(f"onnxruntime cannot load model file {self.info.path}: {last_line(error)}") from error
        used = self._session.get_providers()[0]
        if used != wanted[0][0]:
            # onnxruntime falls back by itself, for instance where cuDNN is missing.
            logger.warning("onnxruntime offers %s but could not start it; the model runs on %s", wanted[0][0], used)
        threads = f"{self.threads} threads" if self.threads else "default threads"
        self._description = f"onnxruntime {onnxruntime.__version__} {used}, {threads}, {self.precision}"

    @property
    def holds_device(self) -> bool:
        return self._session is not None and self._session.get_providers()[0] != "CPUExecutionProvider"

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        if self._session is None:
            raise EngineError("engine onnxruntime is not open; call open() first")
        self._check_image(image)
        names = self.output_names
        try:
            outputs = self._session.run(names, {"image": image})
        except Exception as error:
            raise EngineError(f"onnxruntime failed to run model {self.info.name}: {last_line(error)}") from error
        return dict(zip(names, outputs, strict=True))

    def close(self) -> None:
        self._session = None

    def _session_options(self, onnxruntime: Any) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = self.threads
        # Waiting threads would spin: a tenth quicker on free cores, but up to five times slower where other work -
        # decoding, publishing, the rest of the robot - runs on them too.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        axis = read_onnx_header(self.info.path).inputs[0].shape[0]
        if isinstance(axis, str) and axis:
            # A known batch lets onnxruntime fold the shape arithmetic of the attention layers away.
            options.add_free_dimension_override_by_name(axis, self.batch_size)
        return options


def _providers(available: list[str], precision: str) -> list[tuple[str, dict[str, str]]]:
    """Execution providers in the order to try."""
    providers: list[tuple[str, dict[str, str]]] = [("CPUExecutionProvider", {})]
    if "CUDAExecutionProvider" in available:
        providers.insert(0, ("CUDAExecutionProvider", {"use_tf32": "0" if precision == "f32" else "1"}))
    return providers
