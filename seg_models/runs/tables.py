"""Runs as lines of text."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from seg_models.messages import shown
from seg_models.runs.reading import Run

# Differences that say nothing about what was trained.
LEFT_OUT = ("name",)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns under one another; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def listed(runs: Sequence[Run]) -> list[str]:
    """A line for each run: how far it is, its best and last mIoU, its speed, when and from which commit it was started."""
    head = [
        "run",
        "model",
        "backbone",
        "steps",
        "best mIoU",
        "at",
        "last mIoU",
        "loss",
        "images/s",
        "started",
        "commit",
    ]
    return aligned([head, *(_row(run) for run in runs)])


def _row(run: Run) -> list[str]:
    best, last = run.best, list(run.scores.values())
    losses, speeds = list(run.losses.values()), list(run.speeds.values())
    start = run.started[-1] if run.started else {}
    return [
        str(run.folder),
        str(run.recipe.get("model.name", "?")),
        str(run.recipe.get("model.backbone", "?")),
        f"{run.step}/{run.steps}",
        f"{best[1]:.4f}" if best else "-",
        str(best[0]) if best else "-",
        f"{last[-1]:.4f}" if last else "-",
        f"{statistics.fmean(losses[-10:]):.3f}" if losses else "-",
        f"{statistics.median(speeds):.1f}" if speeds else "-",
        str(start.get("started", "-"))[:16],
        str(start.get("commit", "-")),
    ]


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Fields of the recipes that are not the same in all of the runs, and each run's value."""
    names = list(dict.fromkeys(name for run in runs for name in run.recipe if name not in LEFT_OUT))
    values = {name: [run.recipe.get(name) for run in runs] for name in names}
    return {name: each for name, each in values.items() if any(value != each[0] for value in each)}


def compared(runs: Sequence[Run]) -> list[str]:
    """The list, what differs in the recipes, and mIoU by step: three tables."""
    lines = [*listed(runs), ""]
    names = [run.name for run in runs]
    different = differences(runs)
    if different:
        rows = [["recipe", *names]]
        rows += [[name, *(shown(value, 40) for value in each)] for name, each in different.items()]
        lines += [*aligned(rows), ""]
    else:
        lines += ["the recipes are the same", ""]
    steps = sorted({step for run in runs for step in run.scores})
    rows = [["mIoU at step", *names]]
    rows += [[str(step), *(f"{run.scores[step]:.4f}" if step in run.scores else "-" for run in runs)] for step in steps]
    return lines + (aligned(rows) if steps else ["no validation yet"])
