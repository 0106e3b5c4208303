"""Export every published configuration and see whether it holds: agreement with PyTorch, and TensorRT's parser and builder.

    .venv-test/bin/python -m benchmarks.export_table --images data/rooms/images/val --out out/export_table

Each configuration is built with random weights at its published size, batch norms with the statistics of real images
(`settle`), the class scores spread out as a trained model's are (`sharpen`), and exported by the contract, which compares
ONNX Runtime with PyTorch on real images. The float16 form is compared, too, whatever the outcome. Both are then parsed and
built into an engine by TensorRT for RTX, whose parser is TensorRT's and which builds without a GPU. Each is a line in
`runs.jsonl`, made in a process of its own; what is there already is not done again. `table.md` is the table of
docs/export.md.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from torch import nn

from benchmarks.architectures import normalized
from seg_models.data.labels import LabelTable
from seg_models.export.checks import compare, read_images
from seg_models.export.deployment import deployment_model
from seg_models.export.deployment_file import Origin, export_onnx
from seg_models.papers.configurations import CONFIGURATIONS, Configuration
from seg_models.segmentation_model import SegmentationModel
from seg_onnx.half_precision import to_half


def distinct() -> list[Configuration]:
    """The configurations without those that are the same model under two tables."""
    found: dict[str, Configuration] = {}
    for c in CONFIGURATIONS:
        found.setdefault(repr((c.architecture, c.backbone, c.classes, c.size, sorted(c.options.items()))), c)
    return list(found.values())


def sharpen(model: SegmentationModel, spread: float = 4.0) -> None:
    """Give the class scores a standard deviation of about `spread`, and learned embeddings one of 1, in place.

    Freshly made models give every class nearly the same probability: confidences would agree whatever the file computed,
    and labels and superpixels would be ties that the last bit decides.
    The layers that make class scores are those with an output for each class (SegViT: and one for none).
    """
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[2] in ("queries", "cls_emb", "class_tokens"):
            with torch.no_grad():
                parameter.div_(parameter.std())
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and len(module.weight) in (
            model.num_classes,
            model.num_classes + 1,
        ):
            with torch.no_grad():
                module.weight.mul_(spread / module.weight.flatten(1).norm(dim=1).mean())
        elif isinstance(module, nn.LayerNorm) and module.normalized_shape == (model.num_classes,):
            nn.init.constant_(module.weight, spread)  # over the classes, in Segmenter and RSSeg


def settle(model: SegmentationModel, images: list[np.ndarray]) -> None:
    """Give a convolutional backbone's batch norms the statistics of real images, in place, as training does.

    Without, activations grow from block to block, in MobileNetV4-Conv-M past float16's largest number.
    """
    backbone = model.backbone
    assert isinstance(backbone, nn.Module)
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    height, width = model.image_size
    batch = np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR) for image in images])
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this batch alone
        norm.train()
    with torch.no_grad():
        backbone(normalized(model, torch.from_numpy(batch)))
    model.eval()


def build_engine(path: Path, precision: str) -> dict[str, Any]:
    """Build an engine of a float32 file for one image: {"ok", "seconds", "problem"}."""
    from seg_perception.engines.tensorrt.api import TensorRt
    from seg_perception.engines.tensorrt.build import BuildRequest, build
    from seg_perception.engines.tensorrt.module import TensorRtError
    from seg_perception.engines.tensorrt.options import BuildOptions

    started = time.perf_counter()
    problem = ""
    with tempfile.TemporaryDirectory() as folder:
        request = BuildRequest(path, BuildOptions(precision), "tensorrt_rtx", Path(folder) / "engine")
        try:
            build(request, TensorRt.load(request.module), lambda phase, share: None)
        except TensorRtError as error:
            problem = str(error)[:200]
    return {"ok": not problem, "seconds": time.perf_counter() - started, "problem": problem}


def check(configuration: Configuration, images: Path, count: int) -> dict[str, Any]:
    """Export one configuration, compare, parse and build, in both precisions."""
    torch.manual_seed(0)
    model = configuration.build().eval()
    chosen = read_images(images, count)
    settle(model, chosen)
    sharpen(model)
    labels = LabelTable(
        tuple(f"class {i}" for i in range(configuration.classes)),
        tuple((i % 256, i // 256, 0) for i in range(configuration.classes)),
    )
    result: dict[str, Any] = {"name": configuration.name, "size": list(configuration.size), "problem": ""}
    with tempfile.TemporaryDirectory() as folder:
        path, half = Path(folder) / "model.onnx", Path(folder) / "half.onnx"
        started = time.perf_counter()
        try:
            origin = Origin(configuration.name, configuration.architecture, "none: random weights")
            result |= export_onnx(model, labels, origin, path, chosen)
            result |= {"export_s": time.perf_counter() - started, "file_mb": path.stat().st_size / 1e6}
            onnx.save(to_half(onnx.load(str(path))), str(half))
            result["half_mb"] = half.stat().st_size / 1e6
            result["half"] = compare(model, deployment_model(model.deployed()), half, chosen)
        except ValueError as error:
            return result | {"problem": str(error)[:300]}
        del model
        print(json.dumps(result), flush=True)  # stays if the builder runs out of memory
        half.unlink()
        result["float32"] = build_engine(path, "fp32")
        print(json.dumps(result), flush=True)
        result["float16"] = build_engine(path, "fp16")
    return result


def stopped(done: subprocess.CompletedProcess[str]) -> str:
    """Why a process did not finish."""
    if done.returncode < 0:
        return f"stopped: {signal.Signals(-done.returncode).name}" + (
            ", as when memory runs out" if done.returncode == -signal.SIGKILL else ""
        )
    return f"stopped: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]}"


def table(results: list[dict[str, Any]]) -> str:
    """Markdown, in the order of the configurations."""

    def engine(outcome: dict[str, Any] | None) -> str:
        if outcome is None:
            return ""
        return f"built, {outcome['seconds']:.0f} s" if outcome["ok"] else cell(outcome["problem"])

    def agreement(figures: dict[str, Any] | None) -> list[str]:
        if figures is None:
            return ["", "", ""]
        owners = f"{100 * figures['superpixel_agreement']:.3f}" if "superpixel_agreement" in figures else ""
        return [f"{100 * figures['label_agreement']:.3f}", owners, f"{figures['confidence_difference']:.0f}"]

    def cell(text: str) -> str:
        """Text that does not break the table."""
        return " ".join(text.replace("|", "/").split())

    found = {r["name"]: r for r in results}
    head = (
        "| configuration | input | MB | labels equal % | superpixels equal % | confidence, of 255 | float16: labels "
        "| superpixels | confidence | TensorRT float32 | TensorRT float16 |"
    )
    lines = [head, "|" + "---|" * 11]
    for configuration in CONFIGURATIONS:
        r = found.get(configuration.name)
        if r is None:
            continue
        cells = [r["name"], "x".join(map(str, r["size"]))]
        if r["problem"]:
            cells += [cell(r["problem"]), *[""] * 8]
        else:
            cells += [f"{r['file_mb']:.0f}", *agreement(r), *agreement(r.get("half"))]
            cells += [engine(r.get("float32")), engine(r.get("float16"))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.export_table", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of real images to compare on")
    parser.add_argument("--count", type=int, default=1, help="how many of them")
    parser.add_argument("--out", type=Path, default=Path("out/export_table"))
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of PyTorch; 0: its choice")
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", default=[""], help="configurations whose name contains one of these"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the name of the configuration that this process checks
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.one:
        (configuration,) = [c for c in CONFIGURATIONS if c.name == args.one]
        print(json.dumps(check(configuration, args.images, args.count)))
        return 0
    if find_spec("tensorrt_rtx") is None:
        parser.error("needs TensorRT for RTX: pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / "runs.jsonl"
    results = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    for configuration in distinct():
        wanted = any(text in configuration.name for text in args.only)
        if not wanted or any(r["name"] == configuration.name for r in results):
            continue
        # A process each: a large model's memory is then really given back, and a crash of a builder is one row's.
        command = [sys.executable, "-m", "benchmarks.export_table", "--one", configuration.name]
        command += ["--images", str(args.images), "--count", str(args.count), "--threads", str(args.threads)]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        printed = done.stdout.strip().splitlines()
        if printed:
            result = json.loads(printed[-1])
        else:
            result = {"name": configuration.name, "size": list(configuration.size), "problem": stopped(done)}
        if printed and done.returncode:
            result["float16" if "float32" in result else "float32"] = {
                "ok": False,
                "seconds": 0.0,
                "problem": f"builder {stopped(done)}",
            }
        results.append(result)
        with log.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{configuration.name}: {time.perf_counter() - started:.0f} s {result['problem']}", flush=True)
    text = table(results)
    (args.out / "table.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
