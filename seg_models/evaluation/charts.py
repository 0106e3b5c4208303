"""Plots as SVG text for the report page, which gives them their colours by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 16, 44


def place(x: float, y: float, highest: float = 1.0) -> tuple[float, float]:
    """Pixel of a point with x in 0..1 and y in 0..highest."""
    return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / highest * (HEIGHT - TOP - BOTTOM)


def frame(inner: Sequence[str], x_title: str, y_title: str, ticks: Mapping[float, str], highest: float = 1.0) -> str:
    """A plot with axes.

    Args:
        inner: SVG elements.
        x_title, y_title: of the axes.
        ticks: texts below, by x in 0..1.
        highest: upper end of the y axis.
    """
    parts = [f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_title)}">']
    for step in range(6):
        value = highest * step / 5
        x0, y = place(0, value, highest)
        x1, _ = place(1, value, highest)
        parts.append(f'<line class="grid" x1="{x0:.1f}" y1="{y:.1f}" x2="{x1:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{x0 - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:.2g}</text>')
    for x, text in ticks.items():
        px, py = place(x, 0)
        parts.append(f'<text x="{px:.1f}" y="{py + 15:.1f}" text-anchor="middle">{escape(text)}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_title)}</text>')
    return "".join([*parts, *inner, "</svg>"])


def bar(x: float, width: float, y: float, kind: str, note: str, highest: float = 1.0) -> str:
    """A bar from the axis up; x and width in 0..1."""
    left, top = place(x, y, highest)
    right, bottom = place(x + width, 0, highest)
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{max(right - left - 1, 1):.1f}" '
        f'height="{max(bottom - top, 0):.1f}"><title>{escape(note)}</title></rect>'
    )


def reliability(bins: Sequence[Mapping[str, float | None]]) -> str:
    """Accuracy of each bin of confidence over the diagonal, and below in a paler colour how many pixels it has."""
    total = sum(one["pixels"] or 0 for one in bins) or 1
    inner = []
    for one in bins:
        low, high, share = one["low"] or 0.0, one["high"] or 0.0, (one["pixels"] or 0) / total
        if one["accuracy"] is not None and one["confidence"] is not None:
            note = f"confidence {one['confidence']:.3f}, accuracy {one['accuracy']:.3f}, {100 * share:.1f} % of pixels"
            inner.append(bar(low, high - low, one["accuracy"], "bar", note))
        inner.append(bar(low, high - low, share, "share", f"{100 * share:.1f} % of pixels"))
    (x0, y0), (x1, y1) = place(0, 0), place(1, 1)
    inner.append(f'<line class="ideal" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/>')
    ticks = {step / 5: f"{step / 5:g}" for step in range(6)}
    return frame(inner, "confidence", "accuracy of pixels with this confidence", ticks)


def curve(points: Mapping[str, float | None], x_title: str, y_title: str) -> str:
    """A line through values in 0..1 at evenly spread, named places."""
    step = 1 / max(1, len(points) - 1)
    known = [(i * step, name, value) for i, (name, value) in enumerate(points.items()) if value is not None]
    pixels = [(*place(x, value), name, value) for x, name, value in known]
    inner = [f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in pixels)}"/>']
    inner += [
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(name)}: {value:.3f}</title></circle>'
        for x, y, name, value in pixels
    ]
    return frame(inner, x_title, y_title, {i * step: name for i, name in enumerate(points)})


def bars(groups: Mapping[str, Mapping[str, float | None]], y_title: str, x_title: str = "") -> str:
    """Values in 0..1 of the same series for several groups, side by side."""
    inner, ticks = [], {}
    for number, (group, values) in enumerate(groups.items()):
        whole = 1 / len(groups)
        ticks[(number + 0.5) * whole] = group
        width = 0.8 * whole / max(1, len(values))
        for place_in_group, (name, value) in enumerate(values.items()):
            x = number * whole + 0.1 * whole + place_in_group * width
            if value is not None:
                inner.append(bar(x, width, value, f"series-{place_in_group % 4}", f"{group}, {name}: {value:.3f}"))
    return frame(inner, x_title, y_title, ticks)
