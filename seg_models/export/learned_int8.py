"""The int8 file of a model that was trained for it: the pairs of `int8.py`, with the ranges that the training learnt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from seg_models.export.int8 import QUANTIZED, Int8Error, quantized_nodes
from seg_models.quantization import HIGHEST_WEIGHT

OF_LAYER = ".layer"  # what a quantised layer's own layer is called in it


def module_of(node: onnx.NodeProto) -> str:
    """Path of the module that a node comes from (see `node_names.py`), without a quantised layer's wrapping."""
    return node.name.rpartition("/")[0].removesuffix(OF_LAYER)


def layer_groups(graph: onnx.GraphProto, layers: set[str]) -> list[list[str]]:
    """Paths of the layers that `int8.py` quantises, those together that read the same tensor, in the graph's order.

    Args:
        graph: of the deployment model in float32.
        layers: paths of the modules that are convolutions or linear layers; products outside of them have no range to learn.
    """
    chosen = set(quantized_nodes(graph))
    groups: dict[str, list[str]] = {}
    for node in graph.node:
        path = module_of(node)
        if node.name in chosen and path in layers and path not in groups.get(node.input[0], []):
            groups.setdefault(node.input[0], []).append(path)
    taken = [path for group in groups.values() for path in group]
    twice = sorted({path for path in taken if taken.count(path) > 1})
    # A layer that reads several tensors would have several ranges; none here does.
    return [[path for path in group if path not in twice] for group in groups.values() if set(group) - set(twice)]


def learned_int8(proto: onnx.ModelProto, scales: Mapping[str, float]) -> onnx.ModelProto:
    """An 8-bit copy of a float32 deployment model.

    Args:
        proto: the model; it is not changed.
        scales: of each quantised layer's path the learnt step of what it reads.

    Raises:
        Int8Error: a layer of which the graph has no product with weights, or layers that read one tensor with several steps.
    """
    model = onnx.ModelProto.FromString(proto.SerializeToString())
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    steps: dict[str, np.float32] = {}  # of the tensors that have a pair
    made: set[str] = set()  # weights that have one
    done: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    added: list[TensorProto] = []
    for node in graph.node:
        path = module_of(node)
        if node.op_type in QUANTIZED and path in scales and node.input[1] in weights:
            tensor, weight, scale = node.input[0], node.input[1], np.float32(scales[path])
            if steps.setdefault(tensor, scale) != scale:
                raise Int8Error(f"{path} reads {tensor} with another step than the layer before it")
            if f"{tensor}_DequantizeLinear" not in made:
                added += _constants(tensor, np.float32(scale), np.int8(0))
                nodes += _pair(tensor)
                made.add(f"{tensor}_DequantizeLinear")
            axis = output_axis(node)
            if weight not in made:
                quantized, step = quantized_weight(numpy_helper.to_array(weights[weight]), axis)
                added.append(numpy_helper.from_array(quantized, f"{weight}_quantized"))
                added += _constants(weight, step, np.zeros(len(step), np.int8))
                nodes.append(
                    helper.make_node(
                        "DequantizeLinear",
                        [f"{weight}_quantized", f"{weight}_scale", f"{weight}_zero_point"],
                        [f"{weight}_DequantizeLinear_Output"],
                        f"{weight}_DequantizeLinear",
                        axis=axis,
                    )
                )
                made.add(weight)
            node.input[0] = f"{tensor}_DequantizeLinear_Output"
            node.input[1] = f"{weight}_DequantizeLinear_Output"
            done.add(path)
        nodes.append(node)
    missing = sorted(scales.keys() - done)
    if missing:
        raise Int8Error(
            f"{missing[0]} was trained in 8 bits, and the graph has no product of it with weights of its own"
        )
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(copies)
    read = {name for node in copies for name in node.input}
    kept = [TensorProto.FromString(tensor.SerializeToString()) for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *added])
    return model


def output_axis(node: onnx.NodeProto) -> int:
    """Along which axis of a product's weights its output channels lie."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return 1


def quantized_weight(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights as int8 and the step of each output channel, float32, as `seg_models.quantization.rounded` has them."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    step = np.where(largest > 0, largest / np.float32(HIGHEST_WEIGHT), np.float32(1)).astype(np.float32)
    return np.clip(np.rint(weight / step), -HIGHEST_WEIGHT, HIGHEST_WEIGHT).astype(np.int8), step.reshape(-1)


def _constants(name: str, scale: np.ndarray | np.float32, zero_point: np.ndarray | np.int8) -> list[TensorProto]:
    return [
        numpy_helper.from_array(np.asarray(scale, np.float32), f"{name}_scale"),
        numpy_helper.from_array(np.asarray(zero_point, np.int8), f"{name}_zero_point"),
    ]


def _pair(tensor: str) -> list[onnx.NodeProto]:
    """QuantizeLinear and DequantizeLinear of an activation."""
    constants = [f"{tensor}_scale", f"{tensor}_zero_point"]
    between, behind = f"{tensor}_QuantizeLinear_Output", f"{tensor}_DequantizeLinear_Output"
    return [
        helper.make_node("QuantizeLinear", [tensor, *constants], [between], f"{tensor}_QuantizeLinear"),
        helper.make_node("DequantizeLinear", [between, *constants], [behind], f"{tensor}_DequantizeLinear"),
    ]
