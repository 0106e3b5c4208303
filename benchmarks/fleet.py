"""How evaluate-bags grows with its workers, and what 10,000 one-hour recordings cost.

    python -m benchmarks.fleet BAG --model M.onnx --image-topic T --label-topic L [--bags 4] [--repeats 3] [--results 10000]

Growth: copies of the recording are scored with one and two workers of one thread, as processes of this machine and as
tasks of Ray; the four ways take turns. Results: so many synthetic ones are merged, ranked, compared and reported by the
command itself, which finds them as results of an earlier run. Prints Markdown tables; what is computed says so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from seg_perception.bag.evaluate import EvaluateOptions, evaluate_bag
from seg_perception.engines.select import ENGINE_KINDS
from seg_perception.fleet.bag_scores import MOMENTS, BagScores, Moment, scores_text, write_scores
from seg_perception.fleet.jobs import ScoringOptions, job_key, model_digest
from seg_perception.model.model_file import read_model_info
from seg_perception.process.environment import describe_environment

FLEET = 10_000
FRAMES_AN_HOUR = 30 * 3600
WORKERS = (16, 256, 1024)
PRESENT = 20  # classes that meet in a recording
# The command, and then the peak of its memory in kB: a line behind all that it prints.
PROGRAM = (
    "import resource, sys; from seg_perception.cli import main; code = main(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
)


@dataclass(frozen=True)
class Measured:
    """Of one recording: its frames, its bytes, and frames a second of one CPU core that does nothing else."""

    frames: int
    nbytes: int
    rate: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = _parser().parse_args(arguments)
    machine = describe_environment()
    print(f"`{' '.join(['python -m benchmarks.fleet', *(arguments or sys.argv[1:])])}`\n")
    print(f"{machine['processor']}, {machine['cores']}, {machine['date']}; {options.repeats} repeats\n")
    with tempfile.TemporaryDirectory() as folder:
        measured = growth(options, Path(folder))
        result_bytes = results(options, Path(folder) / "synthetic")
    on_paper(measured, result_bytes)
    return 0


def growth(options: argparse.Namespace, folder: Path) -> Measured:
    """Print how much sooner two workers are done than one, of processes and of Ray."""
    for index in range(options.bags):  # copies: links of one recording count once
        target = folder / "bags" / f"{index}{options.bag.suffix}"
        target.parent.mkdir(exist_ok=True)
        copy = shutil.copytree if options.bag.is_dir() else shutil.copy
        copy(options.bag, target)
    ways = [(where, workers) for where in ("processes", "Ray") for workers in (1, 2)]
    seconds: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    rates: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    frames = 0
    for repeat in range(options.repeats):
        for where, workers in ways:
            out = folder / f"{where}{workers}.{repeat}"
            more = ["--workers", str(workers), "--threads", "1", *(["--ray"] if where == "Ray" else [])]
            start = perf_counter()
            _run(options, folder / "bags", out, more)
            seconds[where, workers].append(perf_counter() - start)
            content = json.loads((out / "fleet.json").read_text())
            frames = content["frames"]
            rates[where, workers].append(frames / sum(bag["wall_s"] for bag in content["bags"]))
    print(
        f"| workers, one thread each | s for {options.bags} recordings of {frames // options.bags} frames | over one process |",
        end="",
    )
    print(" frames/s of a worker, warm |\n|---|---|---|---|")
    for way, times in seconds.items():
        ratios = [one / time for one, time in zip(seconds["processes", 1], times, strict=True)]
        print(f"| {way[1]}, {way[0]} | {_spread(times)} | {_spread(ratios, 2)} | {_spread(rates[way])} |")
    size = sum(path.stat().st_size for path in (folder / "bags").rglob("*") if path.is_file())
    return Measured(frames // options.bags, size // options.bags, core_rate(options))


def core_rate(options: argparse.Namespace) -> float:
    """Frames a second of processor time, the best of the repeats: reading, inference and scoring on one thread each."""
    given = EvaluateOptions(
        options.bag, options.model, options.image_topic, options.label_topic, options.engine, threads=1
    )
    best = 0.0
    for _ in range(options.repeats + 1):  # the first also compiles
        start = process_time()
        result = evaluate_bag(given)
        best = max(best, result.frames_out / (process_time() - start))
    return best


def results(options: argparse.Namespace, folder: Path) -> float:
    """Print what the command takes for `--results` results that are there; bytes of one."""
    info = read_model_info(options.model)
    found = folder / "out/bags"
    found.mkdir(parents=True)
    names = [f"robot{index % 97:02d}/drive{index:05d}" for index in range(options.results)]
    (folder / "bags.txt").write_text("\n".join(names))
    scoring = ScoringOptions(options.image_topic, options.label_topic, options.engine)
    rng, digest = np.random.default_rng(0), model_digest(options.model)
    for name in names:
        key = job_key(folder / name, digest, scoring)
        write_scores(found / f"{key}.json", scores_text(_synthetic(name, info.num_classes, rng)))
    nbytes = sum(path.stat().st_size for path in found.iterdir()) / options.results
    start = perf_counter()
    peak_mb = _run(options, folder / "bags.txt", folder / "out", ["--compare", str(options.model)])
    seconds = perf_counter() - start
    page, figures = ((folder / "out" / name).stat().st_size / 1e6 for name in ("fleet.html", "fleet.json"))
    print("\n| results, read twice, for the model and for itself to compare with | bytes each | s in all |", end="")
    print(" driver's peak MB | fleet.html MB | fleet.json MB |\n|---|---|---|---|---|---|")
    what = f"{options.results} of {info.num_classes} classes"
    print(f"| {what} | {nbytes:.0f} | {seconds:.1f} | {peak_mb:.0f} | {page:.2f} | {figures:.2f} |")
    return nbytes


def on_paper(measured: Measured, result_bytes: float) -> None:
    """Print bytes and seconds for FLEET recordings of an hour: what was measured, multiplied."""
    frame = measured.nbytes / measured.frames
    print(
        f"\nComputed for {FLEET} recordings of an hour at 30 frames/s, from {measured.rate:.1f} frames/s of a core, ",
        end="",
    )
    print(f"{frame / 1e3:.1f} kB a frame and {result_bytes / 1e3:.1f} kB a result:\n\n| | |\n|---|---|")
    print(f"| a recording | {FRAMES_AN_HOUR} frames, {frame * FRAMES_AN_HOUR / 1e9:.2f} GB, ", end="")
    print(f"{FRAMES_AN_HOUR / measured.rate / 60:.0f} min of a core |")
    print(f"| all recordings | {FLEET * frame * FRAMES_AN_HOUR / 1e12:.1f} TB |")
    print(f"| all results | {FLEET * result_bytes / 1e6:.0f} MB |")
    for workers in WORKERS:
        days = FLEET * FRAMES_AN_HOUR / measured.rate / workers / 86400
        print(f"| {workers} cores | {days:.1f} days, reading {measured.rate * frame * workers / 1e6:.0f} MB/s |")


def _run(options: argparse.Namespace, bags: Path, out: Path, more: Sequence[str]) -> float:
    """Run the command; the peak of its own memory, without its workers', in MB."""
    given = [
        "evaluate-bags",
        str(bags),
        "--model",
        str(options.model),
        "--out",
        str(out),
        "--engine",
        options.engine,
        *more,
    ]
    for name in ("image_topic", "label_topic"):
        if getattr(options, name):
            given += [f"--{name.replace('_', '-')}", getattr(options, name)]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *given], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"evaluate-bags ended with {done.returncode}: {done.stdout}{done.stderr}")
    return float(done.stdout.splitlines()[-1]) / 1e3


def _synthetic(bag: str, classes: int, rng: np.random.Generator) -> BagScores:
    """Of an hour in which PRESENT classes meet and are taken for each other."""
    confusion = np.zeros((classes, classes + 1), np.int64)
    present = rng.choice(classes, min(classes, PRESENT), replace=False)
    confusion[np.ix_(present, present)] = rng.integers(0, 10**9, (len(present), len(present)))
    mious = np.sort(rng.random(MOMENTS)).tolist()
    moments = [Moment(bag, 30 * i, 30 * i + 29, 10**18 + i, miou) for i, miou in enumerate(mious)]
    return BagScores(bag, confusion, FRAMES_AN_HOUR, 0, FRAMES_AN_HOUR, moments, [], 3600.0)


def _spread(values: Sequence[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="evaluate-bags: growth with workers, and the cost of 10,000 recordings"
    )
    parser.add_argument("bag", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--image-topic")
    parser.add_argument("--label-topic")
    parser.add_argument("--engine", choices=ENGINE_KINDS, default="auto")
    parser.add_argument("--bags", type=int, default=4, help="copies of the recording (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=int, default=FLEET, help="synthetic results (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
