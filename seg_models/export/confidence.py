"""A temperature in a deployment file: the class scores behind `confidence` are divided by it, and no label changes.

In the form `association` the scores are an output, `class_logits`. A pixel's scores are a mix of them with weights that do not
depend on them (eq. 6), so dividing the output divides every pixel's scores: whoever paints needs to know nothing. In the form
`labels` the graph ends in a softmax, which is looked for from `confidence` backwards. A file whose confidence is no softmax over
classes, such as SegViT's, has its confidence p made sigmoid(logit(p) / T).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from seg_models.export.errors import ExportError

KEY = "temperature"  # in the metadata
FACTOR = "temperature/inverse"  # name of the constant in the graph
# What may lie between a softmax' largest probability and `confidence`.
BETWEEN = frozenset(
    {"Cast", "Round", "Mul", "Div", "Reciprocal", "ReduceSum", "ReduceMax", "Clip", "Identity"}
) | frozenset({"Gather", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Slice", "Split"})


@dataclass(frozen=True)
class ScoresPlace:
    """Where a graph has the class scores behind its confidence.

    Attributes:
        tensor: name of the scores; in the form `labels` perhaps less the largest of each pixel.
        kind: "output" (`class_logits`), "softmax" (an inner tensor), or "probability" (no softmax over classes: the tensor
            is the confidence in 0..1 itself).
    """

    tensor: str
    kind: str


def scores_place(proto: onnx.ModelProto) -> ScoresPlace:
    """Find them.

    Raises:
        ExportError: no deployment model, or one whose confidence is made otherwise.
    """
    outputs = {value.name for value in proto.graph.output}
    if "class_logits" in outputs:
        return ScoresPlace("class_logits", "output")
    if "confidence" not in outputs:
        raise ExportError(
            "the file has neither class_logits nor confidence among its outputs; expected a deployment model"
        )
    producer = {output: node for node in proto.graph.node for output in node.output}
    made = producer.keys()
    name, probability, reduced = "confidence", "", False
    while (node := producer.get(name)) is not None:
        if reduced and node.op_type in ("Exp", "Softmax"):
            return ScoresPlace(node.input[0], "softmax")
        if node.op_type not in BETWEEN:
            break
        reduced = reduced or node.op_type in ("ReduceSum", "ReduceMax")
        data = [i for i in node.input if i in made]
        if not data:
            break
        if node.op_type == "Mul" and not probability:
            probability = data[0]  # what is multiplied by 255
        name = data[-1] if node.op_type == "Div" else data[0]
    if not probability:
        raise ExportError("confidence is no probability x 255 in this graph; expected a file of seg_models.export")
    return ScoresPlace(probability, "probability")


def with_temperature(proto: onnx.ModelProto, temperature: float) -> onnx.ModelProto:
    """A copy whose scores are divided by a temperature; a file that has one already gets the product of both.

    Args:
        proto: a deployment model of any form and precision.
        temperature: T, positive.

    Raises:
        ExportError: see `scores_place`; a temperature that is not positive and finite.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ExportError(f"the temperature is {temperature:g}; expected a positive number")
    model = onnx.ModelProto.FromString(proto.SerializeToString())
    graph = model.graph
    known = [tensor for tensor in graph.initializer if tensor.name == FACTOR]
    if known:
        values = numpy_helper.to_array(known[0])
        known[0].CopyFrom(numpy_helper.from_array((values / temperature).astype(values.dtype), FACTOR))
    else:
        place = scores_place(model)
        insert_factor(graph, place, 1.0 / temperature, float_type(model, place.tensor))
    properties = {item.key: item.value for item in model.metadata_props}
    properties[KEY] = repr(float(f"{float(properties.get(KEY, '1')) * temperature:.6g}"))
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model)
    return model


def with_scores(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a file of the form `labels` that gives its inner scores as a further output."""
    place = scores_place(proto)
    model = onnx.ModelProto.FromString(proto.SerializeToString())
    model.graph.output.append(helper.make_tensor_value_info(place.tensor, float_type(model, place.tensor), None))
    return model


def float_type(model: onnx.ModelProto, name: str) -> int:
    """Element type of a tensor of the graph."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    for value in [*graph.value_info, *graph.output]:
        if value.name == name and value.type.tensor_type.elem_type:
            return int(value.type.tensor_type.elem_type)
    return int(TensorProto.FLOAT)


def insert_factor(graph: onnx.GraphProto, place: ScoresPlace, factor: float, kind: int) -> None:
    """Multiply a tensor by a constant, or the logit of a probability, in place, behind the node that makes it."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    graph.initializer.append(numpy_helper.from_array(np.array(factor, dtype), FACTOR))
    at = next(i for i, node in enumerate(graph.node) if place.tensor in node.output)
    before, after = f"{place.tensor}/before_temperature", f"{place.tensor}/by_temperature"
    if place.kind == "output":
        outputs = graph.node[at].output
        outputs[list(outputs).index(place.tensor)] = before
        for node in graph.node:  # who else reads it, reads it as it was
            node.input[:] = [before if name == place.tensor else name for name in node.input]
        made = [helper.make_node("Mul", [before, FACTOR], [place.tensor], "temperature/divide")]
    elif place.kind == "softmax":
        made = [helper.make_node("Mul", [place.tensor, FACTOR], [after], "temperature/divide")]
        read_instead(graph, place.tensor, after, ("Exp", "Softmax"))
    else:
        made = sharpened(graph, place.tensor, after, dtype)
        read_instead(graph, place.tensor, after, ("Mul",))
    nodes = [*graph.node[: at + 1], *made, *graph.node[at + 1 :]]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def read_instead(graph: onnx.GraphProto, name: str, other: str, operators: tuple[str, ...]) -> None:
    """Let nodes of some kinds read another tensor."""
    for node in graph.node:
        if node.op_type in operators:
            node.input[:] = [other if one == name else one for one in node.input]


def sharpened(graph: onnx.GraphProto, name: str, other: str, dtype: np.dtype) -> list[onnx.NodeProto]:
    """Nodes of sigmoid(logit(p) / T), p held half a byte's step away from 0 and 1."""
    constants = {"low": 0.5 / 256, "high": 1 - 0.5 / 256, "one": 1.0}
    for key, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), f"temperature/{key}"))
    steps = [
        ("Clip", [name, "temperature/low", "temperature/high"], "temperature/clipped"),
        ("Sub", ["temperature/one", "temperature/clipped"], "temperature/rest"),
        ("Div", ["temperature/clipped", "temperature/rest"], "temperature/odds"),
        ("Log", ["temperature/odds"], "temperature/logit"),
        ("Mul", ["temperature/logit", FACTOR], "temperature/divided"),
        ("Sigmoid", ["temperature/divided"], other),
    ]
    return [helper.make_node(kind, inputs, [output], f"{output}/node") for kind, inputs, output in steps]
