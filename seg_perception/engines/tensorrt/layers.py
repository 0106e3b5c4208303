"""Where two ways of computing one model part: the first layers whose outputs differ.

Both are asked for inner tensors of the same image, a dozen at a time (each may have megabytes), closing in on the first
that differs. A way of computing is a `LayerRunner`; here are ONNX Runtime, which is believed, and TensorRT.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg_perception.engines.base import EngineError, last_line
from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.cuda import Cuda
from seg_perception.engines.tensorrt.executor import Executor
from seg_perception.engines.tensorrt.options import BuildOptions
from seg_perception.engines.tensorrt.prepare import Preparation
from seg_perception.engines.tensorrt.running_calls import Kernels

TOLERANCE = 0.05
AT_ONCE = 12

# names of inner tensors, image uint8 [B, H, W, 3] -> those of the tensors that this way of computing has
LayerRunner = Callable[[Sequence[str], np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Layer:
    """One float tensor of a model and the node that makes it."""

    tensor: str
    node: str
    operator: str


@dataclass(frozen=True)
class LayerDifference:
    """A layer whose output differs.

    Attributes:
        layer: which.
        error: mean absolute difference over mean absolute value; infinite where numbers became infinite or no numbers.
        error_before: the largest such error of the layers looked at before it.
    """

    layer: Layer
    error: float
    error_before: float

    def __str__(self) -> str:
        said = "its values are no longer finite" if math.isinf(self.error) else f"{100 * self.error:.1f} % off"
        return (
            f"{self.layer.node or self.layer.tensor} ({self.layer.operator}, tensor {self.layer.tensor}): {said}, "
            f"{100 * self.error_before:.1f} % before it"
        )


def first_differences(
    layers: Sequence[Layer],
    believed: LayerRunner,
    tested: LayerRunner,
    image: np.ndarray,
    tolerance: float = TOLERANCE,
    count: int = 3,
) -> list[LayerDifference]:
    """The first layers whose outputs differ by more than the tolerance, in the order of the graph.

    Args:
        layers: of the model, in the order in which they are computed.
        believed, tested: the two ways of computing it.
        image: uint8 [B, H, W, 3].
        tolerance: relative, see `LayerDifference`.
        count: at most so many.
    """
    if not layers:
        return []
    low, high = 0, len(layers)  # what differs first is in layers[low:high]
    before = 0.0
    known: list[LayerDifference] = []  # what the passes before found, for where the tensors between are not to be had
    while True:
        window = layers[low:high]
        chosen = [window[i] for i in sorted({round(x) for x in np.linspace(0, len(window) - 1, AT_ONCE)})]
        errors = _errors(chosen, believed, tested, image)
        wrong = next((i for i, (_, error) in enumerate(errors) if error > tolerance), None)
        if wrong is None:
            return known
        before = max([before, *(error for _, error in errors[:wrong])])
        if len(window) <= AT_ONCE:
            found = [(layer, error) for layer, error in errors[wrong:] if error > tolerance]
            return [LayerDifference(layer, error, before) for layer, error in found[:count]]
        known = [LayerDifference(*errors[wrong], before)]
        positions = {layer.tensor: low + i for i, layer in enumerate(window)}
        high = min(positions[errors[wrong][0].tensor] + count, high)
        new_low = positions[errors[wrong - 1][0].tensor] + 1 if wrong else low
        if (new_low, high) == (low, low + len(window)):  # no closer: the other way does not have the tensors between
            return known
        low = new_low


def _errors(
    layers: Sequence[Layer], believed: LayerRunner, tested: LayerRunner, image: np.ndarray
) -> list[tuple[Layer, float]]:
    names = [layer.tensor for layer in layers]
    came = {name: array.copy() for name, array in tested(names, image).items()}
    expected = believed([name for name in names if name in came], image)
    return [
        (layer, relative_error(expected[layer.tensor], came[layer.tensor])) for layer in layers if layer.tensor in came
    ]


def relative_error(expected: np.ndarray, came: np.ndarray) -> float:
    """Mean absolute difference over mean absolute value; infinite where only `came` has what is not finite."""
    expected, came = expected.astype(np.float64), came.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.isfinite(came[finite]).all():
        return math.inf
    if not finite.any():
        return 0.0
    size = float(np.abs(expected[finite]).mean())
    difference = float(np.abs(expected[finite] - came[finite]).mean())
    return difference / size if size else (0.0 if difference == 0.0 else math.inf)


def float_layers(model: Path) -> list[Layer]:
    """The float layers of a model file in the order in which they are computed.

    Raises:
        EngineError: the package `onnx` is not installed.
    """
    onnx = _onnx()
    from seg_onnx.half_precision import float_tensors

    proto = onnx.load(os.fspath(model))
    floats = float_tensors(proto)
    return [
        Layer(name, node.name, node.op_type)
        for node in proto.graph.node
        for name in node.output
        if name in floats and node.op_type not in ("Constant", "ConstantOfShape")
    ]


class OnnxLayers:
    """Inner tensors as ONNX Runtime computes them on the processor.

    Args:
        model: bytes of the model file.

    Raises:
        EngineError: `onnx` or `onnxruntime` is not installed.
    """

    def __init__(self, model: bytes) -> None:
        self._onnx = _onnx()
        self._model = self._onnx.load_from_string(model)
        inferred = self._onnx.shape_inference.infer_shapes(self._model)
        self._values = {value.name: value for value in [*inferred.graph.value_info, *inferred.graph.output]}

    def __call__(self, names: Sequence[str], image: np.ndarray) -> dict[str, np.ndarray]:
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(f"layers are compared with onnxruntime: {last_line(error)}") from error
        known = [name for name in names if name in self._values]
        if not known:
            return {}  # asked for nothing, ONNX Runtime gives everything
        proto = self._onnx.ModelProto.FromString(self._model.SerializeToString())
        have = {value.name for value in proto.graph.output}
        proto.graph.output.extend(self._values[name] for name in known if name not in have)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Layers that are fused into one have no tensor between them.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip(known, session.run(known, {"image": image}), strict=True))


class TensorRtLayers:
    """Inner tensors as an engine computes them that has them as outputs. It is built anew for each choice of tensors.

    Args:
        model: the model file.
        tensorrt, cuda: what it runs on.
        preparation: builds the engines; they go again after their one run.
        options: how the engine is built whose layers these are.
    """

    def __init__(
        self, model: Path, tensorrt: TensorRt, cuda: Cuda, preparation: Preparation, options: BuildOptions
    ) -> None:
        self._model = model
        self._tensorrt = tensorrt
        self._cuda = cuda
        self._preparation = preparation
        self._options = options

    def __call__(self, names: Sequence[str], image: np.ndarray) -> dict[str, np.ndarray]:
        prepared = self._preparation.engine(self._model, self._options, tuple(names))
        self._preparation.cache.remove(prepared.name)
        engine = self._tensorrt.engine(prepared.plan)
        mapped = self._cuda.device(0).integrated
        executor = Executor(self._tensorrt, self._cuda, engine, [len(image)], mapped, Kernels(b""))
        try:
            outputs = executor.run({"image": image})
            return {name: outputs[name].copy() for name in names if name in outputs}
        finally:
            executor.close()


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise EngineError(
            f"comparing layers needs the package onnx ({last_line(error)}): `pip install onnx`"
        ) from error
    return onnx
