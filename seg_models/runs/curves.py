"""Loss and mIoU of runs over the steps, as a page with drawings in it."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from seg_models.runs.reading import Run
from seg_models.runs.tables import compared

COLOURS = ("#2166ac", "#b2182b", "#1b7837", "#762a83", "#e08214", "#01665e", "#8c510a", "#c51b7d")
WIDTH, HEIGHT, LEFT, BOTTOM = 760, 300, 60, 40
SMOOTHING = 0.1  # share of the newest value in the running mean that a loss is shown as


def smoothed(values: Mapping[int, float]) -> dict[int, float]:
    """A running mean: m <- m + SMOOTHING (value - m)."""
    mean, made = math.nan, {}
    for step, value in values.items():
        mean = value if math.isnan(mean) else mean + SMOOTHING * (value - mean)
        made[step] = mean
    return made


def chart(title: str, lines: Sequence[tuple[str, Mapping[int, float]]]) -> str:
    """An SVG of values by step, a line for each name; a line without values is named all the same."""
    steps = [step for _, line in lines for step in line] or [0]
    values = [value for _, line in lines for value in line.values()] or [0.0]
    last, low, high = max(*steps, 1), min(*values, 0.0), max(*values, 1e-9)
    parts = [f'<text x="{LEFT}" y="16">{html.escape(title)}</text>']

    def place(step: float, value: float) -> str:
        x = LEFT + step / last * (WIDTH - LEFT - 20)
        y = HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - 30)
        return f"{x:.1f},{y:.1f}"

    for share in (0, 0.25, 0.5, 0.75, 1):
        value, step = low + share * (high - low), share * last
        (left, y), (x, _) = place(0, value).split(","), place(step, low).split(",")
        parts.append(f'<line x1="{left}" y1="{y}" x2="{WIDTH - 20}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y}" text-anchor="end">{value:.3g}</text>')
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step:.0f}</text>')
    for number, (name, line) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(place(step, value) for step, value in line.items())
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{points}"/>')
        parts.append(
            f'<text x="{LEFT + 10 + 170 * (number % 4)}" y="{HEIGHT + 14 * (number // 4) - 4}" fill="{colour}">'
        )
        parts.append(f"{html.escape(name)}</text>")
    rows = HEIGHT + 14 * (len(lines) // 4 + 1)
    return f'<svg viewBox="0 0 {WIDTH} {rows}" width="{WIDTH}" font-family="sans-serif" font-size="11">{"".join(parts)}</svg>'


def write_page(runs: Sequence[Run], path: Path) -> None:
    """The comparison and the curves of mIoU and loss as one HTML file."""
    names = [run.name for run in runs]
    charts = [
        chart("mIoU of the validation split", list(zip(names, [run.scores for run in runs], strict=True))),
        chart("loss, running mean", list(zip(names, [smoothed(run.losses) for run in runs], strict=True))),
    ]
    table = html.escape("\n".join(compared(runs)))
    body = "".join(f"<p>{drawn}</p>" for drawn in charts)
    path.write_text(
        f'<!doctype html><meta charset="utf-8"><title>runs</title>{body}<pre>{table}</pre>\n', encoding="utf-8"
    )
