"""Turn an exported float32 file into a float16 one that keeps in float32 what float16 breaks.

TensorRT from version 11 on computes in the types that the file says, and older versions take the same file. Vision
transformers overflow in pure float16: norms square their input, attention scores of late layers pass 65504. These stay:

    layer and group norms, softmax, exponentials, sums and means over an axis
    the matrix product whose result a softmax takes (attention scores, association logits), with what lies between
    what an ArgMin takes, and where a GridSample samples: clustering and positions, of the superpixel pilot
    the first two convolutions after the image: their filters subtract neighbouring pixels, and what they round is most of
    what a trained EfficientNet loses (with them in float16 the shipped model's confidence is off by up to 15 of 255,
    otherwise by up to 3)

onnxconverter-common's converter, which ONNX Runtime ships, writes the same cast twice where such a node reads one tensor
twice, and the file is then refused; hence this one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

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
        "GridSample",
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
    | {"Neg", "Clip", "Max", "Min", "Tile", "Flatten", "Identity"}
)
# A norm over the classes, as Segmenter's and RSSeg's, magnifies what tells the classes of a pixel apart.
BETWEEN = ARITHMETIC | MOVING | {"LayerNormalization"}
STEM_CONVOLUTIONS = 2
# Inputs that are float32 by the operator's definition: regions and scales.
FLOAT32_INPUTS = {"Resize": (1, 2)}


class HalfPrecisionError(ValueError):
    """A graph that cannot be converted."""


def to_half(proto: onnx.ModelProto, keep: Collection[str] = ()) -> onnx.ModelProto:
    """A float16 copy of a float32 deployment model. Its inputs are integers; outputs that are float32 stay so.

    Args:
        proto: the model; it is not changed.
        keep: names of tensors that are to be made in float32, too.

    Raises:
        HalfPrecisionError: a graph with floating inputs or float16 outputs, with branches, loops or functions, one whose types
            cannot be inferred, or whose nodes are not in order.
    """
    model = onnx.ModelProto.FromString(proto.SerializeToString())
    graph = model.graph
    for value in graph.input:
        if value.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
            raise HalfPrecisionError(
                f"input {value.name} is floating; expected a deployment model, which takes integers"
            )
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            raise HalfPrecisionError(f"output {value.name} is float16; the model is converted already")
    for node in graph.node:
        if any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute):
            raise HalfPrecisionError(f"{node.name} ({node.op_type}) has a graph inside; expected a plain graph")
    if model.functions:
        raise HalfPrecisionError(f"the model has a function, {model.functions[0].name}; expected a plain graph")
    floats = float_tensors(model)
    unknown = set(keep) - {name for node in graph.node for name in node.output}
    if unknown:
        raise HalfPrecisionError(f"no node makes {', '.join(sorted(unknown))}, which should stay float32")
    float_outputs = {v.name for v in graph.output if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    kept = float_outputs | score_outputs(graph) | position_outputs(graph) | stem_outputs(graph) | set(keep)
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.name in floats}
    names = {name for node in graph.node for name in node.output} | {tensor.name for tensor in graph.initializer}
    is_half: dict[str, bool] = {}  # of the float tensors that nodes have made
    other: dict[str, str] = {}  # names of the same tensors in the other precision
    nodes: list[onnx.NodeProto] = []
    halved: list[TensorProto] = []

    def renamed(name: str, suffix: str) -> str:
        """A name that no tensor has yet."""
        while f"{name}_{suffix}" in names:
            suffix += "_"
        names.add(f"{name}_{suffix}")
        return f"{name}_{suffix}"

    for node in graph.node:
        half = node.op_type not in FLOAT32_OPERATORS and not kept.intersection(node.output)
        for i, name in enumerate(node.input):
            if name not in floats:
                continue
            wants_half = half and i not in FLOAT32_INPUTS.get(node.op_type, ())
            if name in weights:
                if wants_half and name not in other:
                    other[name] = renamed(name, "half")
                    halved.append(half_tensor(weights[name], other[name]))
                if wants_half:
                    node.input[i] = other[name]
                continue
            if name not in is_half:
                raise HalfPrecisionError(f"{node.op_type} reads {name}, which no node before it makes; sort the graph")
            if is_half[name] != wants_half:
                if name not in other:
                    other[name] = renamed(name, "half" if wants_half else "float")
                    target = TensorProto.FLOAT16 if wants_half else TensorProto.FLOAT
                    nodes.append(helper.make_node("Cast", [name], [other[name]], f"cast_{other[name]}", to=target))
                node.input[i] = other[name]
        is_half.update({name: half for name in node.output if name in floats})
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]  # the recorded types are no longer true
    graph.node.extend(copies)
    read = {name for node in copies for name in node.input}
    copied = [TensorProto.FromString(tensor.SerializeToString()) for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend([*copied, *halved])
    return model


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 tensors, weights included.

    Raises:
        HalfPrecisionError: the type of a tensor cannot be inferred.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise HalfPrecisionError(f"the graph's types cannot be inferred: {str(error).splitlines()[0]}") from error
    types = {v.name: v.type.tensor_type.elem_type for v in [*inferred.value_info, *inferred.input, *inferred.output]}
    types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    for node in inferred.node:
        for name in node.output:
            if name and not types.get(name):
                raise HalfPrecisionError(f"the type of {name}, made by {node.op_type}, cannot be inferred")
    return {name for name, kind in types.items() if kind == TensorProto.FLOAT}


def half_tensor(tensor: TensorProto, name: str) -> TensorProto:
    """A weight in float16, under another name. What is too large becomes the largest number of its sign (infinity stays),
    and a lone number that is too small the smallest normal one: it is the floor of a norm that something is divided by,
    and 0 would not do."""
    limits = np.finfo(np.float16)
    values = numpy_helper.to_array(tensor)
    values = np.where(np.isfinite(values), values.clip(float(limits.min), float(limits.max)), values)
    if values.size == 1 and 0 < abs(values.item()) < limits.tiny:
        values = np.copysign(np.full_like(values, limits.tiny), values)
    return numpy_helper.from_array(values.astype(np.float16), name)


def score_outputs(graph: onnx.GraphProto) -> set[str]:
    """What the nodes make from each softmax back to the product of its scores, that product included; and from each floating
    output, which is a score, too: of pixels for superpixels, and of superpixels for classes."""
    producer = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    waiting = [n.input[0] for n in graph.node if n.op_type in ("Softmax", "LogSoftmax")]
    waiting += [value.name for value in graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    while waiting:
        name = waiting.pop()
        node = producer.get(name)
        if node is None or name in found:
            continue
        if node.op_type in PRODUCTS | BETWEEN:
            found.update(node.output)
        if node.op_type in BETWEEN:
            waiting.extend(_data_inputs(node))
    return found


def position_outputs(graph: onnx.GraphProto) -> set[str]:
    """All that an ArgMin or the positions of a GridSample come from: distances and coordinates of hundreds of pixels,
    which float16 would round to whole ones, and whose sums pass its largest number."""
    producer = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    waiting = [n.input[0] for n in graph.node if n.op_type == "ArgMin"]
    waiting += [n.input[1] for n in graph.node if n.op_type == "GridSample"]
    while waiting:
        node = producer.get(waiting.pop())
        if node is not None and not found.issuperset(node.output):
            found.update(node.output)
            waiting.extend(node.input)
    return found


def stem_outputs(graph: onnx.GraphProto) -> set[str]:
    """What comes from the image through at most `STEM_CONVOLUTIONS` convolutions and no other product."""
    passed = {value.name: 0.0 for value in graph.input}  # convolutions since the image; infinite after another product
    for node in graph.node:
        counts = [passed[name] for name in node.input if name in passed]
        if counts and node.op_type != "Shape":
            step = 1.0 if node.op_type == "Conv" else math.inf if node.op_type in PRODUCTS else 0.0
            passed.update((name, max(counts) + step) for name in node.output)
    images = {value.name for value in graph.input}
    return {name for name, count in passed.items() if count <= STEM_CONVOLUTIONS} - images


def _data_inputs(node: onnx.NodeProto) -> Iterable[str]:
    """The inputs that the result's values come from, without shapes, indices and conditions."""
    if node.op_type == "Where":
        return node.input[1:]
    if node.op_type in ARITHMETIC or node.op_type in ("Max", "Min"):
        return node.input
    return node.input[:1]
