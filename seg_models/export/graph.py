"""A deployment model as an ONNX graph."""

from __future__ import annotations

import logging
import warnings

import onnx
import onnx_ir
import torch
from onnx_ir.passes import common as passes
from onnxscript.optimizer import fold_constants

from seg_models.export.deployment import DeploymentModel
from seg_models.export.node_names import name_after_modules

OPSET = 20


def deployment_graph(deployment: DeploymentModel) -> onnx.ModelProto:
    """The contract's graph in float32, with a free batch, without metadata."""
    height, width = deployment.model.image_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        program = torch.onnx.export(
            deployment,
            (torch.zeros(2, height, width, 3, dtype=torch.uint8),),
            input_names=["image"],
            output_names=list(deployment.outputs),
            dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1, max=64)}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            optimize=False,
        )
    assert program is not None
    simplify(program.model)
    proto = program.model_proto
    name_after_modules(proto)
    strip_debug_text(proto)
    cast_first(proto)
    return proto


def simplify(model: onnx_ir.Model) -> None:
    """Fold constants and drop what is double or unused, in place.

    The exporter's own optimizer also tries hundreds of rewriting rules on every node, which takes as long as the export
    itself; ONNX Runtime, OpenVINO and TensorRT rewrite on their own, and are as quick without.
    """
    fold_constants(model)
    onnx_ir.passes.Sequential(
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.IdentityEliminationPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
    )(model)


def strip_debug_text(proto: onnx.ModelProto) -> None:
    """Drop the exporter's per-node notes: stack traces with this machine's paths, a third of a small file."""
    for item in [*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output]:
        del item.metadata_props[:]
    for node in proto.graph.node:
        node.doc_string = ""
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
    del proto.graph.metadata_props[:]


def cast_first(proto: onnx.ModelProto) -> None:
    """Make the Cast the only reader of the uint8 input: with a free batch the exporter lets a Shape read it too."""
    nodes = proto.graph.node
    cast = next(node for node in nodes if node.op_type == "Cast" and "image" in node.input)
    for node in nodes:
        if node is not cast:
            for i, name in enumerate(node.input):
                if name == "image":
                    node.input[i] = cast.output[0]
    ordered = [cast, *(node for node in nodes if node is not cast)]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del nodes[:]
    nodes.extend(copies)
