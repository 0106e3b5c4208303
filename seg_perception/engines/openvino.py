"""OpenVINO on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from seg_perception.engines.base import Engine, EngineError, last_line
from seg_perception.model.model_file import ModelInfo

if TYPE_CHECKING:
    import openvino


class OpenVinoEngine(Engine):
    """Runs the model in OpenVINO; see `Engine` for arguments and calls."""

    name = "openvino"

    def __init__(self, info: ModelInfo, threads: int = 0, precision: str = "f32", batch_size: int = 1) -> None:
        super().__init__(info, threads, precision, batch_size)
        self._request: openvino.InferRequest | None = None
        self._description = self.name

    @property
    def description(self) -> str:
        return self._description

    def open(self) -> None:
        if self._request is not None:
            return
        try:
            import openvino
            from openvino import properties
        except ImportError as error:
            raise EngineError(
                f"engine openvino is not usable: {last_line(error)}; "
                "install it with `pip install openvino` or choose another engine"
            ) from error
        config: dict[Any, Any] = {
            properties.hint.performance_mode: properties.hint.PerformanceMode.LATENCY,
            properties.num_streams: 1,
            # Pinned to cores, its threads wait for whatever else runs there; a robot's processor is shared.
            properties.hint.enable_cpu_pinning: False,
        }
        if self.precision == "f32":
            # Left alone, OpenVINO computes in bfloat16 wherever the processor can.
            config[properties.hint.inference_precision] = openvino.Type.f32
        if self.threads:
            config[properties.inference_num_threads] = self.threads
        try:
            core = openvino.Core()
            model = core.read_model(self.info.path)
            model.reshape({"image": [self.batch_size, *self.info.input_size, 3]})
            compiled = core.compile_model(model, "CPU", config)
            self._request = compiled.create_infer_request()
            used = compiled.get_property(properties.inference_num_threads)
            precision = compiled.get_property(properties.hint.inference_precision).get_type_name()
        except RuntimeError as error:
            self._request = None
            raise EngineError(f"openvino cannot load model file {self.info.path}: {last_line(error)}") from error
        version = openvino.__version__.split("-")[0]
        self._description = f"openvino {version} CPU, {used} threads, {precision}"

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        if self._request is None:
            raise EngineError("engine openvino is not open; call open() first")
        self._check_image(image)
        try:
            results = self._request.infer({"image": image}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise EngineError(f"openvino failed to run model {self.info.name}: {last_line(error)}") from error
        return {name: results[name] for name in self.output_names}

    def close(self) -> None:
        self._request = None


def has_native_bfloat16() -> bool:
    """Whether OpenVINO is installed and this processor multiplies bfloat16 itself (AVX512-BF16, AMX, or Arm's BF16)."""
    try:
        import openvino
    except ImportError:
        return False
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
