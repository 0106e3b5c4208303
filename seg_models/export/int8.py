"""Turn an exported float32 file into one whose convolutions and linear layers compute in 8 bits.

What every engine understands, TensorRT among them: a QuantizeLinear and DequantizeLinear pair before each such layer and on
its weights, symmetric (zero points are 0), weights a scale for each output channel, biases left in float32. In float32 stay

    the first two convolutions, whose filters subtract neighbouring pixels, and the last product before each output
    what float16 files keep, too: attention scores, association, clustering, with softmax and norms
    products of two activations, and of an activation behind a learned constant (the first layer's queries): no layer's weights

Ranges of activations come from calibration images, in one of two ways (`METHODS`); which one suits a model shows only in
its masks, so `export` tries both and takes the better one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from seg_models.ops.neighbourhood import BORDER
from seg_onnx.half_precision import position_outputs, score_outputs, stem_outputs

logger = logging.getLogger(__name__)

QUANTIZED = ("Conv", "Gemm", "MatMul")
# Entropy: the range whose 8-bit histogram tells most of the float one. Percentile: all but the outermost values.
METHODS = {"entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile}
PERCENTILE = 99.99


class Int8Error(ValueError):
    """A graph that cannot be quantised."""


def to_int8(proto: onnx.ModelProto, images: Sequence[np.ndarray], method: str) -> onnx.ModelProto:
    """An 8-bit copy of a float32 deployment model.

    Args:
        proto: the model; it is not changed.
        images: uint8 [H, W, 3], RGB, at the model's input size; some dozens, of what the robot will see.
        method: one of METHODS.

    Raises:
        Int8Error: no images, or no layer that could be quantised.
    """
    if not images:
        raise Int8Error("no images to calibrate with; name a folder of real ones with --calibration")
    chosen = quantized_nodes(proto.graph)
    if not chosen:
        raise Int8Error(f"the model has no layer of the kinds {', '.join(QUANTIZED)} with weights of its own")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(proto, str(source))
        with contextlib.redirect_stdout(io.StringIO()), _quiet():
            quantize_static(
                str(source),
                str(target),
                _Images(images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTIZED),
                nodes_to_quantize=chosen,
                per_channel=True,
                reduce_range=True,  # of weights: see `seg_models.quantization.HIGHEST_WEIGHT`
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=METHODS[method],
                extra_options={
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,
                    "CalibPercentile": PERCENTILE,
                },
            )
        model = onnx.load(str(target))
    only_for(model.graph, chosen)
    model.graph.name = proto.graph.name
    del model.metadata_props[:]
    model.metadata_props.extend(proto.metadata_props)
    return model


def best_int8(
    proto: onnx.ModelProto, calibration: Sequence[np.ndarray], images: Sequence[np.ndarray]
) -> tuple[onnx.ModelProto, str]:
    """The 8-bit copy, of one for each of METHODS, whose outputs are closest to the float32 model's, and its method.

    Args:
        proto: the float32 model.
        calibration: images that ranges are taken from; see `to_int8`.
        images: others, that the copies are compared on; uint8 [H, W, 3] at the model's input size.

    Raises:
        Int8Error: see `to_int8`.
    """
    expected = _outputs(proto, images)
    candidates = {method: to_int8(proto, calibration, method) for method in METHODS}
    scores = {method: closeness(expected, _outputs(candidate, images)) for method, candidate in candidates.items()}
    logger.info("int8: closeness to float32 %s", ", ".join(f"{m} {score:.4f}" for m, score in scores.items()))
    best = max(scores, key=lambda method: scores[method])
    return candidates[best], best


def closeness(expected: Sequence[np.ndarray], came: Sequence[np.ndarray]) -> float:
    """How close two models' outputs are, at most 1: the mean over outputs of the share of equal integers, or of 1 less the
    mean absolute difference over the mean absolute value. Scores of superpixels outside the grid, which are the same in all
    models and larger than any other, do not count."""
    shares = []
    for a, b in zip(expected, came, strict=True):
        if np.issubdtype(a.dtype, np.integer):
            shares.append(float((a == b).mean()))
        else:
            inside = a > BORDER / 2
            shares.append(1.0 - float(np.abs(a - b)[inside].sum() / max(np.abs(a)[inside].sum(), np.finfo(np.float32).tiny)))
    return float(np.mean(shares))


def _outputs(proto: onnx.ModelProto, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """All outputs of a model on the images, one array for each output."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [session.run(None, {"image": image[None]}) for image in images]
    return [np.concatenate(arrays) for arrays in zip(*runs, strict=True)]


def quantized_nodes(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that are quantised."""
    filters = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    # A layer's weights are one matrix, or filters; constants that differ from place to place are none.
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2 or tensor.name in filters}
    kept = score_outputs(graph) | position_outputs(graph) | stem_outputs(graph) | last_products(graph)
    kept |= constant_outputs(graph)  # engines compute them once
    return [
        node.name
        for node in graph.node
        if node.op_type in QUANTIZED
        and node.input[1] in weights
        and not kept.intersection(node.output)
    ]


def constant_outputs(graph: onnx.GraphProto) -> set[str]:
    """What follows from constants alone. The nodes come in an order in which they can be computed."""
    known = {tensor.name for tensor in graph.initializer}
    found: set[str] = set()
    for node in graph.node:
        if all(not name or name in known or name in found for name in node.input):
            found.update(node.output)
    return found


def only_for(graph: onnx.GraphProto, chosen: Sequence[str]) -> None:
    """Let every other node read what was there before it was quantised, in place: onnxruntime gives the pair to all readers
    of a tensor."""
    producer = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" or node.name in chosen:
            continue
        for i, name in enumerate(node.input):
            pair = producer.get(name)
            if pair is not None and pair.op_type == "DequantizeLinear" and pair.input[0] in producer:
                node.input[i] = producer[pair.input[0]].input[0]


def last_products(graph: onnx.GraphProto) -> set[str]:
    """What comes from a product and reaches an output through no other."""
    producer = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [value.name for value in graph.output]
    while waiting:
        name = waiting.pop()
        node = producer.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in QUANTIZED:
            found.update(node.output)
        else:
            waiting.extend(node.input)
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice on the root logger to prepare the model, which the exporter has done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


class _Images(CalibrationDataReader):
    """Hands the images out one at a time."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}
