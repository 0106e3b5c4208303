"""Nodes named after the modules they come from, so that a profile of the file can say which part of a model takes the time."""

from __future__ import annotations

import ast

import onnx

SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter notes the modules around a node, outermost first


def name_after_modules(proto: onnx.ModelProto, root: str = "model.") -> None:
    """Rename the nodes of an exported graph and what they make in place: `cross_attention.0.pixel_query/linear_3`.

    Nodes outside of all modules keep an empty first part: `/permute`. The outputs of the graph keep their names. The notes
    that this reads may be dropped afterwards.

    Args:
        root: what every module's path begins with; left out of the names.
    """
    kept = {value.name for value in proto.graph.output}
    tensors: dict[str, str] = {}  # some engines name a fused layer after what it makes
    taken: set[str] = set()
    for node in proto.graph.node:
        notes = {item.key: item.value for item in node.metadata_props}
        scopes = [scope for scope in ast.literal_eval(notes.get(SCOPES, "[]"))[:-1] if scope.startswith(root)]
        module = scopes[-1].removeprefix(root) if scopes else ""
        name = f"{module}/{node.name.removeprefix('node_')}"
        number = 2
        while name in taken:
            name, number = f"{name.split('#')[0]}#{number}", number + 1
        taken.add(name)
        node.name = name
        tensors.update({output: f"{module}/{output}" for output in node.output if output and output not in kept})
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [tensors.get(old, old) for old in names]
    del proto.graph.value_info[:]  # notes on shapes, under the old names; whoever needs them infers them
