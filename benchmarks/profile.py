"""Where the time of a deployment model goes: per layer in OpenVINO and ONNX Runtime, by kind of layer and by part of the model.

    .venv-test/bin/python -m benchmarks.profile models/rooms_spt_lite0.onnx
    .venv-test/bin/python -m benchmarks.profile model.onnx --engine openvino --precision bf16 --layers 20

Parts are read from the names of the nodes, which `seg_models.export` makes of the modules' names; a layer that an engine fused
of several belongs to the first, and one that lost its name to the part before it. Files whose nodes have other names show one
part. Each layer counts with its median of all runs. The sum is less than the whole call, which also waits and copies.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seg_perception.model.onnx_header import read_onnx_header

WARM_UP_RUNS = 3
PARTS = {  # the first part of a node's name -> part of the model
    "backbone": "backbone",
    "hypercolumn": "hypercolumn",
    "cross_attention": "cross-attention",
    "self_attention": "self-attention",
    "classifier": "self-attention",
    "association": "association",
}


UNNAMED = "unnamed"


class Layer(NamedTuple):
    """One executed layer: the engine's name for it, the names of the graph's nodes that it stands for, kind, median time."""

    name: str
    nodes: tuple[str, ...]
    kind: str
    ms: float


def image_of(model: Path) -> np.ndarray:
    """Noise of the model's input size, uint8 [1, H, W, 3].

    Raises:
        OnnxFormatError: not an ONNX file.
        OSError: it cannot be read.
        ValueError: one that takes no image.
    """
    inputs = read_onnx_header(model).inputs
    shape = inputs[0].shape if inputs else ()
    if len(shape) != 4 or shape[3] != 3 or not all(isinstance(side, int) for side in shape[1:]):
        raise ValueError(f"{model} is no deployment model; expected an input [B, H, W, 3]")
    return np.random.default_rng(0).integers(0, 256, (1, *shape[1:]), np.uint8)


def openvino_layers(model: Path, threads: int, precision: str, runs: int) -> tuple[list[Layer], float]:
    """The executed layers in order, and the median milliseconds of a whole call."""
    import openvino

    image = image_of(model)
    core = openvino.Core()
    graph = core.read_model(model)
    graph.reshape({graph.input(0).any_name: list(image.shape)})
    config = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads)}
    config |= {"ENABLE_CPU_PINNING": "NO", "INFERENCE_PRECISION_HINT": precision, "PERF_COUNT": "YES"}
    compiled = core.compile_model(graph, "CPU", config)
    originals = {
        op.get_friendly_name(): op.get_rt_info()["originalLayersNames"].astype(str)
        for op in compiled.get_runtime_model().get_ordered_ops()
        if "originalLayersNames" in op.get_rt_info()
    }
    request = compiled.create_infer_request()
    calls, times, kinds = [], defaultdict(list), {}
    for run in range(WARM_UP_RUNS + runs):
        started = time.perf_counter()
        request.infer([image], share_inputs=True, share_outputs=True)
        elapsed = 1e3 * (time.perf_counter() - started)
        if run < WARM_UP_RUNS:
            continue
        calls.append(elapsed)
        for info in request.profiling_info:
            times[info.node_name].append(1e3 * info.real_time.total_seconds())
            kinds[info.node_name] = info.node_type
    layers = [
        Layer(name, tuple(originals.get(name, name).split(",")), kinds[name], float(np.median(values)))
        for name, values in times.items()
    ]
    return layers, float(np.median(calls))


def onnxruntime_layers(model: Path, threads: int, runs: int) -> tuple[list[Layer], float]:
    """As `openvino_layers`."""
    import onnxruntime

    image = image_of(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        calls = []
        for _ in range(WARM_UP_RUNS + runs):
            started = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: image})
            calls.append(1e3 * (time.perf_counter() - started))
        events = json.loads(Path(session.end_profiling()).read_text())
    times, kinds = defaultdict(list), {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            times[name].append(event["dur"] / 1e3)  # microseconds
            kinds[name] = event["args"]["op_name"]
    layers = [Layer(n, (n,), kinds[n], float(np.median(values[WARM_UP_RUNS:]))) for n, values in times.items()]
    return layers, float(np.median(calls[WARM_UP_RUNS:]))


def part_of(nodes: tuple[str, ...], before: str) -> str:
    """The part of the model that a layer belongs to; `before` is that of the layer before it."""
    for node in nodes:
        if "/" not in node:
            continue
        module = node.split("/")[0].split(".")[0]
        if module in PARTS:
            return PARTS[module]
        if not module:  # outside of all modules: what comes first prepares the image, what comes last paints
            return "input" if before in ("", UNNAMED, "input") else "painting"
    return before or UNNAMED


def shares(layers: list[Layer]) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds by kind of layer and by part of the model, each the longest first."""
    kinds: dict[str, float] = defaultdict(float)
    parts: dict[str, float] = defaultdict(float)
    part = ""
    for layer in layers:
        part = part_of(layer.nodes, part)
        kinds[layer.kind] += layer.ms
        parts[part] += layer.ms
    return longest_first(kinds), longest_first(parts)


def longest_first(times: dict[str, float]) -> dict[str, float]:
    """The same, sorted."""
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def report(title: str, layers: list[Layer], call_ms: float, longest: int) -> str:
    """Markdown: parts, kinds, and the longest layers."""
    total = sum(layer.ms for layer in layers)
    kinds, parts = shares(layers)
    lines = [f"### {title}", "", f"{total:.2f} ms in layers, {call_ms:.2f} ms a call", ""]
    parts = {part: ms for part, ms in parts.items() if ms}  # the input itself, which takes no time, is in none
    kinds = {kind: ms for kind, ms in kinds.items() if ms >= total / 200}
    for name, times in (("part", parts), ("kind", kinds)):
        lines += [f"| {name} | ms | % |", "|---|---|---|"]
        lines += [f"| {key} | {ms:.2f} | {100 * ms / total:.0f} |" for key, ms in times.items()]
        lines.append("")
    if longest:
        lines += ["| layer | kind | ms |", "|---|---|---|"]
        for layer in sorted(layers, key=lambda x: -x.ms)[:longest]:
            lines.append(
                f"| {layer.nodes[-1] if '/' in layer.nodes[-1] else layer.name} | {layer.kind} | {layer.ms:.3f} |"
            )
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="ONNX file with an input [B, H, W, 3]")
    parser.add_argument("--engine", choices=("openvino", "onnxruntime", "both"), default="both")
    parser.add_argument("--precision", choices=("f32", "bf16", "both"), default="both", help="of OpenVINO")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--layers", type=int, default=0, metavar="N", help="also list the N longest layers")
    args = parser.parse_args(arguments)
    try:
        if args.engine != "onnxruntime":
            for precision in ("f32", "bf16") if args.precision == "both" else (args.precision,):
                layers, call_ms = openvino_layers(args.model, args.threads, precision, args.runs)
                print(report(f"OpenVINO {precision}, {args.threads} threads", layers, call_ms, args.layers))
        if args.engine != "openvino":
            layers, call_ms = onnxruntime_layers(args.model, args.threads, args.runs)
            print(report(f"ONNX Runtime, {args.threads} threads", layers, call_ms, args.layers))
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {str(error).splitlines()[-1]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
