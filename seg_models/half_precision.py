"""Turn an exported float32 file into a float16 one that keeps in float32 what float16 breaks.

TensorRT from version 11 on computes in the types that the file says, and older versions take the same file. Vision
transformers overflow in pure float16: norms square their input, attention scores of late layers pass 65504. These stay:

    norms, softmax, exponentials, and sums over an axis
    the matrix product whose result a softmax takes (attention scores, association logits), with what lies between

onnxconverter-common's converter, which ONNX Runtime ships, writes the same cast twice where such a node reads one tensor
twice, and the file is then refused; hence this one.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT32_OPERATORS = frozenset(
    {
        "LayerNormalization",
        "InstanceNormalization",
        "GroupNormalization",
        "Softmax",
        "LogSoftmax",
        "Exp",
        "Log",
        "Pow",
        "Sqrt",
        "ReduceL2",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
        # These say a type of their own, or have inputs of one that is not their output's.
        "Cast",
        "CastLike",
        "Constant",
        "ConstantOfShape",
        "Range",
        "OneHot",
    }
)
# The walk from a softmax back to its scores ends at a product and goes through what only moves or scales them.
PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "Einsum"})
ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Concat"})
MOVING = frozenset(
    {"Where", "Slice", "Pad", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Expand", "Resize", "Split", "Gather"}
)
BETWEEN = ARITHMETIC | MOVING
# Inputs that are float32 by the operator's definition: regions and scales.
FLOAT32_INPUTS = {"Resize": (1, 2)}


class HalfPrecisionError(ValueError):
    """A graph that cannot be converted."""


def to_half(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A float16 copy of a float32 model whose inputs and outputs are integers, as the deployment model's are.

    Raises:
        HalfPrecisionError: a graph with floating inputs or outputs, or with branches or loops.
    """
    model = onnx.ModelProto.FromString(proto.SerializeToString())
    graph = model.graph
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
            raise HalfPrecisionError(f"{value.name} is floating; expected a deployment model, integers in and out")
    for node in graph.node:
        if any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute):
            raise HalfPrecisionError(f"{node.name} ({node.op_type}) has a graph inside; expected a plain graph")
    floats = float_tensors(model)
    kept = score_nodes(graph)
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.name in floats}
    is_half: dict[str, bool] = {}  # of the float tensors that nodes make
    casts: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    halved: dict[str, TensorProto] = {}
    for node in graph.node:
        half = node.op_type not in FLOAT32_OPERATORS and node.name not in kept
        for i, name in enumerate(node.input):
            if name not in floats:
                continue
            wants_half = half and i not in FLOAT32_INPUTS.get(node.op_type, ())
            if name in weights:
                if wants_half:
                    node.input[i] = f"{name}_half"
                    halved.setdefault(name, half_tensor(weights[name]))
            elif is_half[name] != wants_half:
                node.input[i] = f"{name}_{'half' if wants_half else 'float'}"
                if node.input[i] not in casts:
                    casts.add(node.input[i])
                    target = TensorProto.FLOAT16 if wants_half else TensorProto.FLOAT
                    nodes.append(helper.make_node("Cast", [name], [node.input[i]], f"cast_{node.input[i]}", to=target))
        is_half.update({name: half for name in node.output if name in floats})
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]  # the recorded types are no longer true
    graph.node.extend(copies)
    read = {name for node in copies for name in node.input}
    others = [tensor for tensor in graph.initializer if tensor.name in read]
    copied = [TensorProto.FromString(tensor.SerializeToString()) for tensor in others]
    del graph.initializer[:]
    graph.initializer.extend([*copied, *halved.values()])
    return model


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 tensors, weights included."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = {v.name for v in inferred.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return values | {t.name for t in inferred.initializer if t.data_type == TensorProto.FLOAT}


def half_tensor(tensor: TensorProto) -> TensorProto:
    """A weight in float16. What is too large becomes the largest number of its sign, and a lone number that is too small
    the smallest normal one: it is the floor of a norm that something is divided by, and 0 would not do."""
    limits = np.finfo(np.float16)
    values = numpy_helper.to_array(tensor).clip(float(limits.min), float(limits.max))
    if values.size == 1 and 0 < abs(values.item()) < limits.tiny:
        values = np.copysign(np.full_like(values, limits.tiny), values)
    return numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}_half")


def score_nodes(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes from each softmax back to the product that makes its scores, that product included."""
    producer = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    waiting: list[str] = [name for node in graph.node if node.op_type == "Softmax" for name in node.input[:1]]
    while waiting:
        node = producer.get(waiting.pop())
        if node is None or node.name in found:
            continue
        if node.op_type in PRODUCTS | BETWEEN:
            found.add(node.name)
        if node.op_type in BETWEEN:
            waiting.extend(_data_inputs(node))
    return found


def _data_inputs(node: onnx.NodeProto) -> Iterable[str]:
    """The inputs that the result's values come from, without shapes, indices and conditions."""
    if node.op_type == "Where":
        return node.input[1:]
    if node.op_type in ARITHMETIC:
        return node.input
    return node.input[:1]
