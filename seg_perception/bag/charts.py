"""Charts as SVG text that sits in a page and takes its colours from the page's CSS variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT = 640, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 24, 34
MAX_POINTS = 600  # of a line; more would only make the page heavy
HISTOGRAM_BINS = 40


def line_chart(
    x: np.ndarray,
    y: np.ndarray,
    *,
    x_title: str,
    y_title: str,
    levels: dict[str, float] | None = None,
    y_max: float | None = None,
) -> str:
    """A line over time.

    Args:
        x, y: float [N]; NaN in `y` leaves a gap.
        x_title, y_title: with units.
        levels: named horizontal lines.
        y_max: upper end of the axis; None fits it.
    """
    x, y = _decimated(x, y)
    finite = y[np.isfinite(y)]
    top = y_max if y_max is not None else max(float(finite.max(initial=0.0)), *(levels or {"": 0.0}).values()) * 1.08
    axes = _Axes(float(x.min()), float(x.max()), 0.0, top or 1.0)
    parts = [axes.frame(x_title, y_title)]
    points: list[str] = []
    pieces: list[str] = []
    for x_value, y_value in zip(x, y, strict=True):
        if math.isfinite(y_value):
            points.append(f"{axes.x(x_value):.1f},{axes.y(y_value):.1f}")
        elif points:
            pieces.append(" ".join(points))
            points = []
    pieces.append(" ".join(points))
    for piece in pieces:
        if " " in piece:
            parts.append(f'<polyline class="line" points="{piece}"/>')
        elif piece:
            x_text, y_text = piece.split(",")
            parts.append(f'<circle class="dot" cx="{x_text}" cy="{y_text}" r="2.5"/>')
    parts.append(_levels(axes, levels or {}))
    return _svg(parts, f"{y_title} over {x_title}")


def histogram(values: np.ndarray, *, x_title: str, levels: dict[str, float] | None = None) -> str:
    """How often values occur. Args: values, float [N]; x_title with its unit; levels, named vertical lines."""
    # The last percent may lie far out; it is gathered in the last bar, so that the rest stays readable.
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(np.clip(values, low, high), bins=HISTOGRAM_BINS, range=(low, high))
    axes = _Axes(low, high, 0.0, float(counts.max()) * 1.1)
    parts = [axes.frame(x_title, "frames")]
    for count, start, end in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            left, right, y = axes.x(start), axes.x(end), axes.y(float(count))
            parts.append(
                f'<rect class="bar" x="{left + 0.5:.1f}" y="{y:.1f}" width="{max(right - left - 1, 0.5):.1f}" '
                f'height="{axes.y(0) - y:.1f}"><title>{start:.1f} to {end:.1f}: {count} frames</title></rect>'
            )
    for number, (name, value) in enumerate((levels or {}).items()):
        x = axes.x(min(value, high))
        y = TOP + 10 + 12 * number
        anchor, shift = ("end", -4) if x > 0.8 * WIDTH else ("start", 4)
        parts.append(
            f'<line class="level" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{axes.y(0):.1f}"/>'
            f'<text class="level" x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}">{escape(name)}</text>'
        )
    return _svg(parts, f"histogram of {x_title}")


def confusion_chart(
    names: Sequence[str], columns: Sequence[str], fractions: np.ndarray, counts: np.ndarray, live: bool = False
) -> str:
    """A matrix of true classes (rows) and predicted ones (columns).

    Args:
        names, columns: of the rows and of the columns.
        fractions: float [R, C], each row's pixels shared out over the columns, 0..1.
        counts: int [R, C], pixels.
        live: name each cell in `data-cell` and give it a text, so that a script can show other counts in it.
    """
    cell = 34
    margin_left = 20 + 7 * max((len(name) for name in names), default=1)
    margin_top = 24 + round(5.2 * max((len(name) for name in columns), default=1))
    right = 16 + round(4.2 * len(columns[-1])) if columns else 16
    width, height = margin_left + cell * len(columns) + right, margin_top + cell * len(names) + 8
    parts = [f'<svg class="chart confusion" viewBox="0 0 {width} {height}" style="max-width:{1.15 * width:.0f}px"']
    parts.append(' role="img" aria-label="confusion matrix">')
    for column, name in enumerate(columns):
        x = margin_left + cell * column + cell / 2
        parts.append(
            f'<text x="{x}" y="{margin_top - 8}" transform="rotate(-45 {x} {margin_top - 8})">{escape(name)}</text>'
        )
    for row, name in enumerate(names):
        y = margin_top + cell * row
        parts.append(f'<text x="{margin_left - 8}" y="{y + cell / 2 + 4}" text-anchor="end">{escape(name)}</text>')
        for column, other in enumerate(columns):
            value = float(fractions[row, column])
            x = margin_left + cell * column
            kind = "right" if name == other else "wrong"
            place = f' data-cell="{row},{column}"' if live else ""
            percentage = f"{100 * value:.0f}" if value >= 0.005 else ""
            parts.append(
                f"<g{place}><title>{escape(name)} taken for {escape(other)}: {100 * value:.1f} % "
                f"({int(counts[row, column]):,} pixels)</title>"
                f'<rect class="cell" x="{x}" y="{y}" width="{cell - 2}" height="{cell - 2}" rx="3"/>'
                f'<rect class="{kind}" x="{x}" y="{y}" width="{cell - 2}" height="{cell - 2}" rx="3" '
                f'fill-opacity="{value**0.7:.3f}"/>'
            )
            if live or value >= 0.005:
                strong = " strong" if value > 0.45 else ""
                parts.append(
                    f'<text class="value{strong}" x="{x + cell / 2 - 1}" y="{y + cell / 2 + 3}" '
                    f'text-anchor="middle">{percentage}</text>'
                )
            parts.append("</g>")
    return "".join(parts) + "</svg>"


class _Axes:
    def __init__(self, x_min: float, x_max: float, y_min: float, y_max: float) -> None:
        self._x_min, self._x_max = (x_min, x_max) if x_max > x_min else (x_min - 0.5, x_min + 0.5)
        self._y_min, self._y_max = y_min, y_max

    def x(self, value: float) -> float:
        return LEFT + (value - self._x_min) / (self._x_max - self._x_min) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self._y_min) / (self._y_max - self._y_min) * (HEIGHT - TOP - BOTTOM)

    def frame(self, x_title: str, y_title: str) -> str:
        parts = []
        for tick in _ticks(self._y_min, self._y_max, 5):
            y = self.y(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        for tick in _ticks(self._x_min, self._x_max, 8):
            parts.append(
                f'<text x="{self.x(tick):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tick:g}</text>'
            )
        parts.append(
            f'<text class="title" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_title)}</text>'
        )
        parts.append(f'<text class="title" x="{LEFT}" y="{TOP - 12}">{escape(y_title)}</text>')
        return "".join(parts)


def _levels(axes: _Axes, levels: dict[str, float]) -> str:
    parts = []
    last_y = math.inf
    for name, value in sorted(levels.items(), key=lambda entry: entry[1]):
        y = axes.y(value)
        parts.append(f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        text_y = min(y - 3, last_y - 12)  # names of close lines are moved apart
        parts.append(
            f'<text class="level" x="{WIDTH - RIGHT}" y="{text_y:.1f}" text-anchor="end">{escape(name)}</text>'
        )
        last_y = text_y
    return "".join(parts)


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within the range."""
    step = 10 ** math.floor(math.log10((high - low) / about))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= about)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _decimated(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_POINTS; of every stretch its lowest and highest value, so that no outlier is lost."""
    if len(x) <= MAX_POINTS:
        return x, y
    keep: set[int] = set()
    for part in np.array_split(np.arange(len(x)), MAX_POINTS // 2):
        values = y[part]
        if np.isfinite(values).any():
            keep.update((int(part[np.nanargmin(values)]), int(part[np.nanargmax(values)])))
        else:
            keep.add(int(part[0]))
    index = np.array(sorted(keep))
    return x[index], y[index]


def _svg(parts: Sequence[str], label: str) -> str:
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
    return head + "".join(parts) + "</svg>"
