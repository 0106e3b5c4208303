"""Accuracy against latency of heads on one backbone: same data, budget and ImageNet start; a table and a plot.

    .venv-test/bin/python -m benchmarks.heads --data data/rooms --out out/heads

The Superpixel Transformer in the paper's form and in the robot's, a linear layer, LR-ASPP's head and a feature pyramid, all on
EfficientNet-Lite0. Each trains alike (`benchmarks.architectures`) and is scored on rooms it has not seen. Latency is of the
deployment model through `Segmenter`, labels of a camera image and painting included; the models take turns.

Each run is a line in `runs.jsonl`; one that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import torch

from benchmarks.architectures import Contestant, Scale, build, run, spread
from seg_models.data.folder import FolderDataset
from seg_models.export.deployment_file import Origin, export_onnx
from seg_perception.segmenter import Segmenter

BACKBONE = "tf_efficientnet_lite0"
ROBOT = {"width": 128, "cross_attention_layers": 1, "self_attention_layers": 3, "feed_forward_width": 256}

SCALE = Scale(
    size=(384, 512),
    steps=1000,
    batch_size=8,
    lr=6e-4,
    contestants=(
        Contestant("linear", "conv_linear", BACKBONE),
        Contestant("LR-ASPP", "lraspp", BACKBONE),
        Contestant("FPN, width 64", "fpn", BACKBONE, {"width": 64, "branch_width": 64, "groups": 16}),
        Contestant("Superpixel Transformer, robot's", "superpixel_transformer", BACKBONE, ROBOT),
        # All pixels, as the other heads' losses count them: one variable at a time.
        Contestant(
            "Superpixel Transformer, robot's, all pixels",
            "superpixel_transformer",
            BACKBONE,
            ROBOT | {"hard_pixel_fraction": 1.0},
        ),
        Contestant("Superpixel Transformer, paper's", "superpixel_transformer", BACKBONE),
    ),
    pretrained=True,
)


def latencies(
    contestants: Iterable[Contestant], scale: Scale, data: FolderDataset, precision: str, rounds: int
) -> dict[str, list[float]]:
    """Name -> for each round the median time in ms of one image through the deployment model. Weights do not matter to it."""
    picture = data.read(0)[0]
    camera = cv2.resize(picture, (640, 480))
    taken: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        segmenters = {}
        for number, contestant in enumerate(contestants):
            model = build(contestant, len(data.table.names), scale)
            path = Path(folder) / f"{number}.onnx"
            export_onnx(model, data.table, Origin(contestant.name, contestant.architecture, "none"), path, [picture])
            segmenters[contestant.name] = opened.enter_context(Segmenter(path, precision=precision))
        for number in range(rounds + 1):
            for name, segmenter in segmenters.items():
                calls = []
                for _ in range(8):
                    started = time.perf_counter()
                    segmenter.segment(camera)
                    calls.append(1e3 * (time.perf_counter() - started))
                if number > 0:  # the first round warms up
                    taken[name].append(statistics.median(calls[2:]))
    return taken


def table(runs: list[dict[str, Any]], times: dict[str, list[float]]) -> str:
    """Markdown: a row a head, the quickest first; times also as ratios to the linear head's, round by round."""
    reference = next(iter(times.values()))
    rows = ["| head | mIoU % | ms an image | / linear | seeds |", "|---|---|---|---|---|"]
    for name in sorted(times, key=lambda name: statistics.median(times[name])):
        scores = [100 * r["miou"] for r in runs if r["name"] == name]
        ratios = [a / b for a, b in zip(times[name], reference, strict=True)]
        accuracy = spread(scores, 1) if scores else "not run"
        rows.append(f"| {name} | {accuracy} | {spread(times[name], 1)} | {spread(ratios, 2)} | {len(scores)} |")
    return "\n".join(rows) + "\n"


def plot(runs: list[dict[str, Any]], times: dict[str, list[float]]) -> str:
    """SVG: mIoU over latency, a dot a seed, the name beside the median."""
    points = {
        name: (statistics.median(times[name]), [100 * r["miou"] for r in runs if r["name"] == name]) for name in times
    }
    points = {name: point for name, point in points.items() if point[1]}
    if not points:
        return ""
    right, highest = 1.35 * max(x for x, _ in points.values()), max(max(ys) for _, ys in points.values())
    lowest = min(min(ys) for _, ys in points.values())
    margin = max(1.0, 0.1 * (highest - lowest))
    low, high = lowest - margin, highest + margin

    def place(x: float, y: float) -> tuple[float, float]:
        return 60 + 560 * x / right, 340 - 310 * (y - low) / (high - low)

    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 390" font-family="sans-serif" font-size="12">']
    parts.append('<rect width="720" height="390" fill="white"/>')
    for tick in range(6):
        x, y = right * tick / 5, low + (high - low) * tick / 5
        px, py = place(x, y)
        parts.append(f'<path d="M{px:.0f} 340v5M60 {py:.0f}h-5" stroke="black"/>')
        parts.append(f'<text x="{px:.0f}" y="358" text-anchor="middle">{x:.0f}</text>')
        parts.append(f'<text x="50" y="{py + 4:.0f}" text-anchor="end">{y:.1f}</text>')
    parts.append('<path d="M60 20V340H640" fill="none" stroke="black"/>')
    parts.append('<text x="340" y="380" text-anchor="middle">ms an image</text><text x="20" y="14">mIoU %</text>')
    for name, (x, ys) in points.items():
        for y in ys:
            px, py = place(x, y)
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="#1f77b4" fill-opacity="0.6"/>')
        px, py = place(x, statistics.median(ys))
        parts.append(f'<text x="{px + 7:.1f}" y="{py + 4:.1f}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heads", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--data", type=Path, default=Path("data/rooms"), help="folder data set: trains on train, scores val"
    )
    parser.add_argument("--out", type=Path, default=Path("out/heads"))
    parser.add_argument("--seeds", type=int, default=3, help="0: latency alone")
    parser.add_argument("--steps", type=int, default=SCALE.steps)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the heads")
    parser.add_argument("--precision", default="f32", choices=("f32", "fast"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="threads of the training; 0: PyTorch's choice")
    args = parser.parse_args(arguments)
    if args.seeds < 0 or args.steps < 1 or args.rounds < 1:
        parser.error(
            f"--seeds {args.seeds}, --steps {args.steps}, --rounds {args.rounds}; expected at least 0, 1 and 1"
        )
    unknown = set(args.only or ()) - {c.name for c in SCALE.contestants}
    if unknown:
        parser.error(f"no head {', '.join(sorted(unknown))}; there are: {', '.join(c.name for c in SCALE.contestants)}")
    try:
        data = FolderDataset([args.data], "val")
    except ValueError as error:
        parser.error(str(error))
    if args.threads:
        torch.set_num_threads(args.threads)
    contestants = [c for c in SCALE.contestants if not args.only or c.name in args.only]
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / "runs.jsonl"
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    budget = {"steps": args.steps, "data": args.data.name}
    for seed in range(args.seeds):  # seeds outside: a stopped benchmark has every head once first
        for contestant in contestants:
            key = budget | {"name": contestant.name, "seed": seed}
            if any(key.items() <= r.items() for r in runs):
                continue
            figures = key | run(contestant, SCALE, args.steps, seed, args.data, "cpu")
            runs.append(figures)
            with log.open("a") as file:
                file.write(json.dumps(figures) + "\n")
            print(f"{contestant.name}, seed {seed}: mIoU {figures['miou']:.3f}", flush=True)
    runs = [r for r in runs if budget.items() <= r.items()]
    times = latencies(contestants, SCALE, data, args.precision, args.rounds)
    (args.out / "table.md").write_text(table(runs, times))
    (args.out / "plot.svg").write_text(plot(runs, times))
    print(table(runs, times))
    return 0


if __name__ == "__main__":
    sys.exit(main())
