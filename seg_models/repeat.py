"""Train a recipe with several seeds and report the median, as RegProxy does (median of three):

    python -m seg_models.repeat --seeds 0 1 2 --out runs/t9 \\
        --train "--config config/recipes/rows/regproxy.yaml --row 'T9 S/16, depth-wise' --init-backbone vit.pth" \\
        --evaluate "--data data/ade20k --mode slide --window 512 --stride 512 --short-side 512"

--train and --evaluate take the arguments of those commands. A seed's run is in OUT/seed0, OUT/seed1, ...; the same command
again goes on where it was stopped: what is scored stays, what is half trained is resumed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

Run = Callable[[str, Sequence[str]], int]  # a module of this package and its arguments -> its exit code


class RepeatError(RuntimeError):
    """A training or an evaluation that failed."""


def run_process(module: str, arguments: Sequence[str]) -> int:
    """A command in a process of its own: trainings on several GPUs start their processes from their own command line."""
    return subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode


def repeat(
    seeds: Sequence[int], train: Sequence[str], evaluate: Sequence[str], out: Path, run: Run = run_process
) -> list[float]:
    """Train and score each seed that is not scored yet.

    Args:
        seeds: one for each run.
        train: arguments of `seg_models.train`, without --out and --resume.
        evaluate: arguments of `seg_models.evaluate`, without --checkpoint and --json.
        out: folder of the runs.
        run: how a command is run.

    Returns:
        mIoU in 0..1 of each seed, in their order.

    Raises:
        RepeatError: a command failed, or scored nothing.
    """
    return [one_seed(seed, train, evaluate, out / f"seed{seed}", run) for seed in seeds]


def one_seed(seed: int, train: Sequence[str], evaluate: Sequence[str], folder: Path, run: Run) -> float:
    """mIoU of a seed's run in its folder; see `repeat`."""
    figures, last, trained = folder / "figures.json", folder / "last.ckpt", folder / "trained"
    if not figures.is_file():
        if not trained.is_file():
            resume = ["--resume"] if last.is_file() else []
            finish("seg_models.train", [*train, f"seed={seed}", "--out", str(folder), *resume], run)
            trained.touch()
        finish("seg_models.evaluate", [*evaluate, "--checkpoint", str(last), "--json", str(figures)], run)
    miou = json.loads(figures.read_text(encoding="utf-8"))["miou"]
    if miou is None:
        raise RepeatError(f"{figures} has no mIoU: no pixel of the split has a label")
    return float(miou)


def finish(module: str, arguments: Sequence[str], run: Run) -> None:
    """Run a command; RepeatError unless it succeeds. What went wrong it has said itself."""
    code = run(module, arguments)
    if code != 0:
        raise RepeatError(f"python -m {module} {shlex.join(arguments)} ended with exit code {code}")


def main(arguments: list[str] | None = None, run: Run = run_process) -> int:
    """Command line; returns the exit code (1: a training or an evaluation failed)."""
    parser = argparse.ArgumentParser(prog="python -m seg_models.repeat", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--train", type=shlex.split, required=True, help="arguments of seg_models.train, in quotes")
    parser.add_argument("--evaluate", type=shlex.split, required=True, help="of seg_models.evaluate, in quotes")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs, and of figures.json")
    args = parser.parse_args(arguments)
    try:
        mious = repeat(args.seeds, args.train, args.evaluate, args.out, run)
    except RepeatError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = {"miou": dict(zip(map(str, args.seeds), mious, strict=True)), "median": statistics.median(mious)}
    (args.out / "figures.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for seed, miou in zip(args.seeds, mious, strict=True):
        print(f"seed {seed}: mIoU {miou:.4f}")
    print(f"median of {len(mious)}: mIoU {found['median']:.4f}, from {min(mious):.4f} to {max(mious):.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
