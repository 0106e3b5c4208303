"""Accuracy against latency of heads on one backbone: same data, budget and ImageNet start; a table and a plot.

    .venv-test/bin/python -m benchmarks.heads --data data/camvid --out runs/heads
    .venv-test/bin/python -m benchmarks.heads --data data/camvid --out runs/heads --split test      # once, at the end

The Superpixel Transformer in the paper's form and in the robot's, a linear layer, LR-ASPP's head and a feature pyramid, all on
EfficientNet-Lite0: the recipes `camvid_*.yaml`, which differ in the head alone. Each seed's run is in OUT/RECIPE/seedN
(`seg_models.repeat`); one that is there is not made again, one that was stopped is gone on with. Latency is of the deployment
model through `Segmenter`, from a camera image to its labels, painting included; the models take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.architectures import spread
from seg_models.build import model_from_recipe
from seg_models.checkpoints.trained import load_task
from seg_models.data.folder import FolderDataset
from seg_models.export.deployment_file import Origin, export_onnx
from seg_models.repeat import RepeatError, finish, repeat, run_process
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.recipe import Recipe, read_recipe
from seg_perception.segmenter import Segmenter

LETTER = 6.3  # pixels of the plot, on the average
RECIPES = Path(__file__).parents[1] / "config" / "recipes"
HEADS = {  # name: recipe
    "linear": "camvid_linear_lite0",
    "LR-ASPP": "camvid_lraspp_lite0",
    "FPN, width 64": "camvid_fpn_lite0",
    "Superpixel Transformer, robot's, every 32 pixels": "camvid_spt_lite0",
    "Superpixel Transformer, robot's, every 16 pixels": "camvid_spt_fine_lite0",
    "Superpixel Transformer, paper's": "camvid_spt_paper_lite0",
}


@dataclass(frozen=True)
class Head:
    """A head and where its runs are.

    Attributes:
        name: as the table says it.
        recipe: with the overrides of this benchmark.
        config: file of the recipe.
        folder: OUT/RECIPE.
    """

    name: str
    recipe: Recipe
    config: Path
    folder: Path

    def checkpoint(self, seed: int) -> Path:
        """Of a seed's run."""
        return self.folder / f"seed{seed}" / "last.ckpt"


def scores(head: Head, seeds: list[int], overrides: list[str], data: list[str], split: str) -> list[float]:
    """mIoU in 0..1 of each seed on the recipe's validation split, or on another one of the same trainings.

    Raises:
        RepeatError: a training or an evaluation failed.
    """
    train = ["--config", str(head.config), *overrides]
    found = repeat(seeds, train, [*data, "--split", head.recipe.data.val_split], head.folder)
    if split == head.recipe.data.val_split:
        return found
    found = []
    for seed in seeds:
        figures = head.checkpoint(seed).with_name(f"{split}.json")
        if not figures.is_file():
            checkpoint = ["--checkpoint", str(head.checkpoint(seed))]
            finish("seg_models.evaluate", [*data, "--split", split, *checkpoint, "--json", str(figures)], run_process)
        found.append(float(json.loads(figures.read_text(encoding="utf-8"))["miou"]))
    return found


def latencies(
    models: Mapping[str, SegmentationModel], data: FolderDataset, precision: str, rounds: int
) -> dict[str, list[float]]:
    """Name -> for each round the median time in ms of one image through the deployment model."""
    picture = data.read(0)[0]
    taken: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        segmenters = {}
        for number, (name, model) in enumerate(models.items()):
            path = Path(folder) / f"{number}.onnx"
            export_onnx(model, data.table, Origin(name, type(model).__name__, "none"), path, [picture])
            segmenters[name] = opened.enter_context(Segmenter(path, precision=precision))
        for number in range(rounds + 1):
            for name, segmenter in segmenters.items():
                calls = []
                for _ in range(8):
                    started = time.perf_counter()
                    segmenter.segment(picture)
                    calls.append(1e3 * (time.perf_counter() - started))
                if number > 0:  # the first round warms up
                    taken[name].append(statistics.median(calls[2:]))
    return taken


def table(mious: Mapping[str, list[float]], times: Mapping[str, list[float]]) -> str:
    """Markdown: a row a head, the quickest first; times also as ratios to the first head's, round by round."""
    reference_name, reference = next(iter(times.items()))
    rows = [f"| head | mIoU % | ms an image | / {reference_name} | seeds |", "|---|---|---|---|---|"]
    for name in sorted(times, key=lambda name: statistics.median(times[name])):
        percent = [100 * miou for miou in mious.get(name, [])]
        ratios = [a / b for a, b in zip(times[name], reference, strict=True)]
        accuracy = spread(percent, 1) if percent else "not run"
        rows.append(f"| {name} | {accuracy} | {spread(times[name], 1)} | {spread(ratios, 2)} | {len(percent)} |")
    return "\n".join(rows) + "\n"


def plot(mious: Mapping[str, list[float]], times: Mapping[str, list[float]]) -> str:
    """SVG: mIoU over latency, a dot a seed, the name beside the median."""
    points = {
        name: (statistics.median(times[name]), [100 * miou for miou in mious[name]])
        for name in times
        if mious.get(name)
    }
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
    labels: list[tuple[float, float, float]] = []  # left, right, height of those that stand
    for name, (x, ys) in sorted(points.items(), key=lambda point: -point[1][0]):  # the slowest first: the others make way
        for y in ys:
            px, py = place(x, y)
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="#1f77b4" fill-opacity="0.6"/>')
        px, py = place(x, statistics.median(ys))
        right_end = px + 7 + LETTER * len(name)
        while any(px < end and begin < right_end and abs(py - other) < 13 for begin, end, other in labels):
            py += 13
        labels.append((px, right_end, py))
        parts.append(f'<text x="{px + 7:.1f}" y="{py + 4:.1f}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (1: a training or an evaluation failed)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heads", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data/camvid"), help="root of the data (%(default)s)")
    parser.add_argument("--split", help="score this split instead of the one to choose by; --split test once")
    parser.add_argument("--out", type=Path, default=Path("runs/heads"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3], help="none: latency alone")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(HEADS), help="some of the heads")
    parser.add_argument("--precision", default="f32", choices=("f32", "fast"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*", help="of every recipe, such as schedule.steps=4000 data.kind=folder")
    args = parser.parse_args(arguments)
    overrides = [f"data.roots=[{args.data}]", *args.overrides]
    heads = []
    try:
        for name in args.only or HEADS:
            config = RECIPES / f"{HEADS[name]}.yaml"
            heads.append(Head(name, read_recipe(config, overrides), config, args.out / HEADS[name]))
        settings = heads[0].recipe.data
        split = args.split or settings.val_split
        data = FolderDataset([args.data], split, kind=settings.kind)
    except ValueError as error:
        parser.error(str(error))
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds}; expected at least 1")
    mious: dict[str, list[float]] = defaultdict(list)
    where = ["--data", str(args.data), "--kind", settings.kind]
    try:
        for seed in args.seeds:  # seeds outside: a stopped benchmark has every head once first
            for head in heads:
                mious[head.name] += scores(head, [seed], overrides, where, split)
                print(f"{head.name}, seed {seed}: mIoU {mious[head.name][-1]:.4f} on {split}", flush=True)
    except RepeatError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    models = {
        head.name: load_task(head.checkpoint(args.seeds[0])).model
        if args.seeds
        else model_from_recipe(head.recipe, len(data.table.names), pretrained=False).eval()
        for head in heads
    }
    times = latencies(models, data, args.precision, args.rounds)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{split}.md").write_text(table(mious, times))
    (args.out / f"{split}.svg").write_text(plot(mious, times))
    print(table(mious, times))
    return 0


if __name__ == "__main__":
    sys.exit(main())
