"""The Superpixel Transformer beside what people would pick instead: time from image to labels on a CPU.

    pip install -c constraints.txt -e '.[train,openvino,peers]'
    .venv-test/bin/python -m benchmarks.peers                       # the table, written into benchmarks/README.md
    .venv-test/bin/python -m benchmarks.peers --growth              # with resolution, classes and superpixels: plots

All have random weights, the same input (uint8 RGB, normalised inside) and end in a label for every pixel of it: the peers by
bilinear resizing of their scores and argmax in the graph, as they are published, ours by `seg_perception.painting` after it.
Everything takes turns, image by image, in one process; ratios are of the same turn. Random association maps leave painting
more candidates than trained ones, so ours is not flattered.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.backbones.conv import conv_backbone
from seg_models.build import build_model
from seg_models.export.graph import OPSET, simplify
from seg_models.export.node_names import name_after_modules
from seg_models.segmentation_model import AssociationModel
from seg_perception.painting import Painter, PaintingGeometry

BACKBONE = "tf_efficientnet_lite0"
ROBOT = {"width": 128, "cross_attention_layers": 1, "self_attention_layers": 3, "feed_forward_width": 256}
ROBOT |= {"superpixel_stride": 16, "self_attention_pool": 2}
ENGINES = ("OpenVINO f32", "OpenVINO bf16", "ONNX Runtime")
WARM_UP_ROUNDS = 3
Run = Callable[[], Any]


@dataclass(frozen=True)
class Contestant:
    """A model to time.

    Attributes:
        kind: ours; unfolded, as trained; painted, with the painting in the graph; segformer, torchvision or backbone.
        options: of `build_model`, or torchvision's name of the model.
    """

    name: str
    kind: str
    options: Any = None
    classes: int = 16
    size: tuple[int, int] = (384, 512)

    @property
    def file(self) -> str:
        """A file name of its own."""
        text = f"{self.name} {self.classes} {self.size[0]}x{self.size[1]} {self.options}"
        return "".join(c if c.isalnum() else "_" for c in text) + ".onnx"


def at_stride(stride: int) -> dict[str, int]:
    """The robot's form with a superpixel every so many pixels; self-attention is among means of 32 at the finest."""
    return ROBOT | {"superpixel_stride": stride, "self_attention_pool": max(32 // stride, 1)}


ROBOTS = Contestant("Superpixel Transformer, robot's", "ours", ROBOT)
COARSE = replace(ROBOTS, name="robot's, superpixels every 32 pixels", options=at_stride(32))
PAPERS = Contestant("Superpixel Transformer, paper's", "ours", {})
SEGFORMER = Contestant("SegFormer-B0", "segformer")
LRASPP = Contestant("LR-ASPP MobileNetV3-Large", "torchvision", "lraspp_mobilenet_v3_large")
DEEPLAB = Contestant("DeepLabV3 MobileNetV3-Large", "torchvision", "deeplabv3_mobilenet_v3_large")
# Ends in its deepest map, so that handing out large early ones, which no whole model does, is not counted for it.
ALONE = Contestant("our backbone alone, EfficientNet-Lite0", "backbone")
STEPS = (  # what each step brought
    replace(ROBOTS, name="robot's, not folded", kind="unfolded"),
    replace(ROBOTS, name="robot's, painted in the graph", kind="painted"),
    replace(PAPERS, name="paper's, not folded", kind="unfolded"),
    replace(PAPERS, name="paper's, painted in the graph", kind="painted"),
)
CONTESTANTS = (ROBOTS, COARSE, PAPERS, SEGFORMER, LRASPP, DEEPLAB, ALONE, *STEPS)


class LabelsOf(nn.Module):
    """uint8 (1, H, W, 3) -> what `network` makes of the normalised image; class scores become labels, uint8 (1, H, W)."""

    def __init__(self, network: nn.Module, scores: Callable[[Any], Any], mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network, self.scores = network, scores
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1))
        self.register_buffer("scale", 1.0 / torch.tensor(std).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = (image.float().permute(0, 3, 1, 2) - self.mean) * self.scale  # type: ignore[operator]
        out = self.scores(self.network(x))
        if isinstance(out, tuple):
            return out
        if out.shape[-2:] != x.shape[-2:]:
            out = F.interpolate(out, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return (out.argmax(dim=1).to(torch.uint8),)


class Ending(nn.Module):
    """A Superpixel Transformer that ends where painting begins, or in labels painted in the graph."""

    def __init__(self, model: AssociationModel, painted: bool) -> None:
        super().__init__()
        self.model, self.painted = model, painted

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        if self.painted:
            return (self.model.decide(image).labels.to(torch.uint8),)
        return self.model.associate_features(image)


def build(contestant: Contestant) -> nn.Module:
    """The network of a contestant, uint8 image in.

    Raises:
        ImportError: the packages of the extra `peers` are not installed.
    """
    torch.manual_seed(0)
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    if contestant.kind in ("ours", "unfolded", "painted"):
        model = build_model(
            "superpixel_transformer", BACKBONE, contestant.classes, contestant.size, **contestant.options
        )
        for name in ("pixel_position", "superpixel_position"):  # zeros would be folded away
            nn.init.normal_(getattr(model, name))
        ours = model if contestant.kind == "unfolded" else model.deployed()
        assert isinstance(ours, AssociationModel)
        return LabelsOf(Ending(ours, contestant.kind == "painted"), lambda out: out, **model.normalization)
    if contestant.kind == "backbone":
        backbone = conv_backbone(BACKBONE)
        return LabelsOf(backbone, lambda stages: (stages[-1],), **backbone.normalization)
    if contestant.kind == "segformer":
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=contestant.classes))  # B0 is the default
        return LabelsOf(network, lambda out: out.logits, mean, std)
    from torchvision.models import segmentation

    network = getattr(segmentation, contestant.options)(
        weights=None, weights_backbone=None, num_classes=contestant.classes
    )
    return LabelsOf(network, lambda out: out["out"], mean, std)


def export(contestant: Contestant, folder: Path) -> Path:
    """The contestant's ONNX file; one that is there is not made again."""
    path = folder / contestant.file
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        image = torch.zeros(1, *contestant.size, 3, dtype=torch.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about its own internals
            program = torch.onnx.export(
                build(contestant).eval(),
                (image,),
                input_names=["image"],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
                optimize=False,
            )
        assert program is not None
        simplify(program.model)
        proto = program.model_proto
        name_after_modules(proto, root="network.model.")  # of ours: for benchmarks.profile
        onnx.save(proto, path)
    return path


def open_engine(path: Path, engine: str, threads: int) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A function from an image to the outputs of the file, in an engine set up as `seg_perception.engines` does."""
    if engine == "ONNX Runtime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda image: session.run(None, {"image": image})
    import openvino

    config = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads)}
    config |= {"ENABLE_CPU_PINNING": "NO", "INFERENCE_PRECISION_HINT": engine.split()[1]}
    core = openvino.Core()
    request = core.compile_model(core.read_model(path), "CPU", config).create_infer_request()

    def infer(image: np.ndarray) -> list[np.ndarray]:
        results = request.infer([image], share_inputs=True, share_outputs=True)
        return [results[i] for i in range(len(results))]

    return infer


def open_run(contestant: Contestant, path: Path, engine: str, threads: int, stack: ExitStack) -> Run:
    """From an image to its labels, once a call."""
    infer = open_engine(path, engine, threads)
    image = np.random.default_rng(0).integers(0, 256, (1, *contestant.size, 3), np.uint8)
    if contestant.kind not in ("ours", "unfolded"):
        return lambda: infer(image)
    association, _ = infer(image)
    grid = (association.shape[1], association.shape[2])
    cell = (contestant.size[0] // grid[0], contestant.size[1] // grid[1])
    side = round(association.shape[3] ** 0.5)
    painter = Painter(PaintingGeometry(contestant.size, grid, cell, (side, side)), threads)
    stack.callback(painter.close)
    painter.warm_up()

    def run() -> Any:
        association, scores = infer(image)
        return painter.paint(association[0], scores[0], contestant.size, confidence=False, superpixels=False).labels

    return run


def measure(
    contestants: list[Contestant], engines: tuple[str, ...], folder: Path, threads: int, rounds: int
) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of every round by (file of the contestant, engine)."""
    times: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        runs = {
            (c.file, engine): open_run(c, export(c, folder), engine, threads, stack)
            for c in contestants
            for engine in engines
        }
        for number in range(WARM_UP_ROUNDS + rounds):
            for key, run in runs.items():
                started = time.perf_counter()
                run()
                if number >= WARM_UP_ROUNDS:
                    times.setdefault(key, []).append(1e3 * (time.perf_counter() - started))
    return times


def spread(values: list[float], digits: int = 1) -> str:
    """Median and the middle half: one image in four may be slower or faster, as anything else may run beside it."""
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def table(times: dict[tuple[str, str], list[float]]) -> str:
    """Times, and the ratios to our backbone and of the peers to the robot's form."""
    header = " | ".join(f"{engine} ms | / backbone | / robot's" for engine in ENGINES)
    lines = [f"| model | {header} |", "|---" * (1 + 3 * len(ENGINES)) + "|"]
    for contestant in CONTESTANTS:
        cells = [contestant.name]
        for engine in ENGINES:
            mine = times[contestant.file, engine]
            cells.append(spread(mine))
            for other in (ALONE, ROBOTS):
                ratios = [a / b for a, b in zip(mine, times[other.file, engine], strict=True)]
                cells.append(f"{statistics.median(ratios):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def growths() -> dict[str, list[tuple[float, Contestant]]]:
    """Axis -> (position on it, contestant), for the plots."""
    sizes = ((192, 256), (384, 512), (480, 640), (768, 1024))
    strides = (64, 32, 16)
    models = (ROBOTS, SEGFORMER, LRASPP)
    return {
        "megapixels": [(h * w / 1e6, replace(m, size=(h, w))) for m in models for h, w in sizes],
        "classes": [(k, replace(m, classes=k)) for m in models for k in (4, 16, 64, 150)],
        "superpixels": [(384 * 512 / s**2, replace(ROBOTS, options=at_stride(s))) for s in strides],
    }


def plot(
    points: dict[str, list[tuple[float, Contestant]]], times: dict[tuple[str, str], list[float]], out: Path
) -> None:
    """Medians over each axis: one panel an axis, OpenVINO f32 drawn through, bf16 dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    colours = {ROBOTS.name: "tab:blue", SEGFORMER.name: "tab:orange", LRASPP.name: "tab:green"}
    figure, axes = pyplot.subplots(1, len(points), figsize=(12, 3.6), layout="constrained")
    for panel, (name, found) in zip(axes, points.items(), strict=True):
        for model, colour in colours.items():
            for engine, style in zip(ENGINES[:2], ("-", "--"), strict=True):
                line = [(x, statistics.median(times[c.file, engine])) for x, c in found if c.name == model]
                if line:
                    label = f"{model.replace('Superpixel Transformer', 'ours')}, {engine.split()[1]}"
                    panel.plot(*zip(*line, strict=True), style, marker="o", markersize=3, color=colour, label=label)
        panel.set(xlabel=name, ylabel="ms", ylim=(0, None))
        panel.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.savefig(out, dpi=80)
    pyplot.close(figure)


def write_between(path: Path, marker: str, text: str) -> None:
    """Replace what stands between `<!-- marker -->` and `<!-- /marker -->` in a file.

    Raises:
        ValueError: the file does not have the two marks, each on a line of its own.
    """
    begin, end = f"<!-- {marker} -->\n", f"<!-- /{marker} -->\n"
    page = path.read_text()
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"{path} does not have the lines {begin.strip()} and {end.strip()}, once each")
    head, tail = page[: page.index(begin) + len(begin)], page[page.index(end) :]
    path.write_text(f"{head}\n{text}\n{tail}")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--growth", action="store_true", help="measure growth and draw benchmarks/peers_growth.png instead"
    )
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", type=Path, default=Path("out/peers"), help="where the ONNX files are kept")
    parser.add_argument("--export-only", action="store_true", help="make the files and stop")
    parser.add_argument("--readme", type=Path, default=here / "README.md", help="page that the table is written into")
    args = parser.parse_args(arguments)
    points = growths() if args.growth else {}
    contestants = list({c.file: c for axis in points.values() for _, c in axis}.values()) or list(CONTESTANTS)
    engines = ENGINES[:2] if args.growth else ENGINES
    try:
        if args.export_only:
            for contestant in contestants:
                export(contestant, args.models)
            return 0
        times = measure(contestants, engines, args.models, args.threads, args.rounds)
        if args.growth:
            plot(points, times, here / "peers_growth.png")
            return 0
        text = table(times)
        print(text)
        write_between(args.readme, "peers", text)
    except ImportError as error:
        print(f"error: {error}; pip install -c constraints.txt -e '.[train,openvino,peers]'", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
