"""An estimate, not a measurement: how long a deployment model takes at least on Jetson modules, by a roofline.

    .venv-test/bin/python -m benchmarks.orin_estimate models/rooms_spt_lite0.onnx

Of every layer of the ONNX graph, the operations and the bytes are counted at half precision; a layer takes the longer of
operations / rate and bytes / bandwidth. Two totals bound what an engine can reach at these rates:

    every layer by itself    each reads its inputs from memory and writes its outputs there: no fusion at all
    products alone           matrix products and convolutions; everything else fused into them and free

A real engine lies between the two and above: no kernel reaches the published rates, small ones wait for their launch, and
resizing, painting and ROS come on top. The rates: tensor cores x clock x 511 dense half-precision operations a clock on
Orin, which is a quarter of NVIDIA's 170 sparse int8 TOPS with 64 tensor cores at 1.3 GHz (Jetson AGX Orin Series Technical
Brief 1.2); Thor's are an eighth of its 2,070 sparse FP4 TFLOPS. CUDA cores: cores x clock x 2 in single precision.

Published for comparison, with another model and network, measured: Isaac ROS SegFormer at 512x512, 33.6 frames/s and 41 ms on
AGX Orin, 15.7 frames/s on Orin Nano.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

ORIN_OPS = (
    170e12 / 4 / 64 / 1.3e9
)  # dense half-precision operations of a tensor core a clock; half of int8, without sparsity
FREE = {"Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Constant", "Shape"}  # no work: views
PRODUCTS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
OPERATIONS = {"Softmax": 8, "LayerNormalization": 8, "Gelu": 12, "Exp": 4, "Sqrt": 4, "Resize": 8}  # an output element


@dataclass(frozen=True)
class Module:
    """Published rates: dense half-precision operations/s of the tensor cores, single-precision ones of the rest, bytes/s."""

    name: str
    tensor: float
    cuda: float
    bandwidth: float


MODULES = (
    Module("Orin Nano 8 GB, 15 W", 32 * 0.625e9 * ORIN_OPS, 2 * 1024 * 0.625e9, 68e9),
    Module("Orin Nano 8 GB, MAXN Super", 32 * 1.02e9 * ORIN_OPS, 2 * 1024 * 1.02e9, 102e9),
    Module("Orin NX 16 GB, 25 W", 32 * 0.918e9 * ORIN_OPS, 2 * 1024 * 0.918e9, 102.4e9),
    Module("AGX Orin 64 GB, MAXN", 64 * 1.3e9 * ORIN_OPS, 2 * 2048 * 1.3e9, 204.8e9),
    Module("AGX Thor T5000", 2070e12 / 8, 2 * 2560 * 1.57e9, 273e9),
)


@dataclass(frozen=True)
class Layer:
    """One node: operations of the tensor cores, of the CUDA cores, bytes."""

    kind: str
    tensor: float
    cuda: float
    nbytes: float

    def seconds(self, module: Module) -> float:
        # Half floats run at twice the single-precision rate on CUDA cores, too.
        return max(self.tensor / module.tensor + self.cuda / (2 * module.cuda), self.nbytes / module.bandwidth)


def layers(model: Path) -> list[Layer]:
    """The layers of a model for one image, constants folded.

    Raises:
        ValueError: an input is not [B, H, W, 3] of one fixed size.
    """
    with tempfile.TemporaryDirectory() as folder:
        proto = _for_one_image(model)
        folded = Path(folder) / "folded.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        proto = onnx.load(str(folded))
    tensors = _tensors(proto)
    return [_layer(node, tensors) for node in proto.graph.node if node.op_type not in FREE]


def _for_one_image(model: Path) -> onnx.ModelProto:
    proto = onnx.load(str(model))
    (image,) = proto.graph.input
    dims = image.type.tensor_type.shape.dim
    if len(dims) != 4 or not all(dim.dim_value for dim in dims[1:]):
        raise ValueError(f"{model} takes {[dim.dim_value or dim.dim_param for dim in dims]}, expected [B, H, W, 3]")
    batch = dims[0].dim_param
    for value in (image, *proto.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if batch and dim.dim_param == batch:
                dim.dim_value = 1
    return proto


def _tensors(proto: onnx.ModelProto) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and type of every tensor, by running the graph once with all of them as outputs."""
    found = {
        t.name: (tuple(t.dims), onnx.helper.tensor_dtype_to_np_dtype(t.data_type)) for t in proto.graph.initializer
    }
    declared = {value.name for value in proto.graph.output}
    names = [name for node in proto.graph.node for name in node.output if name]
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in declared)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    blank = np.zeros(image.shape, np.uint8)
    found[image.name] = (blank.shape, blank.dtype)
    for name, array in zip(names, session.run(names, {image.name: blank}), strict=True):
        found[name] = (array.shape, array.dtype)
    return found


def _layer(node: onnx.NodeProto, tensors: dict[str, tuple[tuple[int, ...], np.dtype]]) -> Layer:
    named = [name for name in (*node.input, *node.output) if name]
    nbytes = sum(_size(*tensors[name]) for name in named)
    if node.op_type in ("Slice", "Gather", "Split"):  # of the input only what goes to the output is read
        nbytes = 2 * sum(_size(*tensors[name]) for name in node.output if name)
    elements = math.prod(tensors[node.output[0]][0])
    if node.op_type not in PRODUCTS:
        return Layer(node.op_type, 0.0, OPERATIONS.get(node.op_type, 1) * elements, nbytes)
    left, right = (tensors[name][0] for name in node.input[:2])
    if node.op_type == "Conv":
        operations = 2.0 * elements * math.prod(right[1:])
        if right[1] == 1:  # depthwise: no matrix product, which is all that tensor cores do
            return Layer("depthwise Conv", 0.0, operations, nbytes)
    elif node.op_type == "ConvTranspose":
        operations = 2.0 * math.prod(left) * math.prod(right[1:])
    else:
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        operations = 2.0 * elements * (left[-2] if transposed else left[-1])
    return Layer(node.op_type, operations, 0.0, nbytes)


def _size(shape: tuple[int, ...], dtype: np.dtype) -> float:
    """Bytes of a tensor in a half-precision engine."""
    return math.prod(shape) * (2 if dtype.kind == "f" else dtype.itemsize)


def table(found: list[Layer]) -> str:
    """Milliseconds and images a second of each module, as Markdown."""
    products = [layer for layer in found if layer.kind in PRODUCTS or layer.kind == "depthwise Conv"]
    lines = [
        "| estimate at published rates, half precision | products alone, ms | every layer by itself, ms |",
        "|---|---|---|",
    ]
    for module in MODULES:
        low, high = (1e3 * sum(layer.seconds(module) for layer in some) for some in (products, found))
        lines.append(f"| {module.name} | {low:.2f} | {high:.2f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    options = parser.parse_args(argv)
    found = layers(options.model)
    kinds: dict[str, list[Layer]] = defaultdict(list)
    for layer in found:
        kinds[layer.kind].append(layer)
    operations = sum(layer.tensor + layer.cuda for layer in found)
    nbytes = sum(layer.nbytes for layer in found)
    print(
        f"{options.model.name}: {len(found)} layers, {operations / 1e9:.2f} G operations, {nbytes / 1e6:.1f} MB moved\n"
    )
    print("| kind | layers | G operations | MB |\n|---|---|---|---|")
    for kind, some in sorted(kinds.items(), key=lambda item: -sum(layer.nbytes for layer in item[1]))[:12]:
        total = sum(layer.tensor + layer.cuda for layer in some)
        print(f"| {kind} | {len(some)} | {total / 1e9:.3f} | {sum(layer.nbytes for layer in some) / 1e6:.1f} |")
    print(f"\n{table(found)}")
    print(
        "\nMeasured by others, another model: Isaac ROS SegFormer, 512x512: "
        "AGX Orin 33.6 frames/s, 41 ms; Orin Nano 15.7 frames/s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
