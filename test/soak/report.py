"""The report of a soak: report.md with plots beside it, soak.json for programs, node.log."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np

from seg_perception.bag.charts import line_chart
from test.soak.memory import LEFT_OUT, Slope
from test.soak.outcome import Outcome

BIN_S = 10.0  # of the plots over time
# The charts take their colours from the page that they are part of; as files of their own they bring them along.
_STYLE = (
    "<style>text{font:11px sans-serif;fill:#444}.title{font-weight:bold}.grid{stroke:#ddd}"
    ".line{fill:none;stroke:#1f6fb2;stroke-width:1.4}.dot{fill:#1f6fb2}.level{stroke:#b2451f;stroke-dasharray:4 3}"
    "text.level{stroke:none;fill:#b2451f}</style>"
    '<rect width="100%" height="100%" fill="#fff"/>'
)


def write_report(outcome: Outcome, folder: Path) -> Path:
    """Write everything; returns the path of report.md."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, chart in _charts(outcome).items():
        (folder / name).write_text(_alone(chart), encoding="utf-8")
    (folder / "node.log").write_text("\n".join(outcome.log) + "\n", encoding="utf-8")
    (folder / "soak.json").write_text(json.dumps(_facts(outcome), indent=1) + "\n", encoding="utf-8")
    path = folder / "report.md"
    path.write_text(markdown(outcome), encoding="utf-8")
    return path


def markdown(outcome: Outcome) -> str:
    """The page."""
    settings = outcome.settings
    verdicts = outcome.verdicts()
    good = sum(verdict.is_good for verdict in verdicts)
    model = "tiny models of the tests" if settings.is_tiny else "shipped model"
    lines = [
        "# Soak",
        "",
        f"{good} of {len(verdicts)} held. Seed {settings.seed}, {settings.minutes:g} minutes of faults at random after every "
        f"fault once; {len(settings.cameras)} cameras ({', '.join(settings.cameras)}) at {settings.rate_hz:g} Hz each; {model}.",
        "",
        "; ".join(f"{name}: {value}" for name, value in outcome.machine.items()),
        "",
        "| | what was to hold | seen |",
        "|---|---|---|",
        *(f"| {'yes' if v.is_good else '**NO**'} | {v.what} | {_cell(v.seen)} |" for v in verdicts),
        "",
        *(f"- {_cell(text)}" for checks in outcome.checks.values() for text in checks.examples),
        "",
        "| camera | images | masks | masks/s | age of a mask p50 ms | p99 ms |",
        "|---|---|---|---|---|---|",
        *_camera_rows(outcome),
        "",
        *(f"![{name.removesuffix('.svg')}]({name})" for name in _charts(outcome)),
        "",
        "Recovery: from the end of a fault until every camera has a mask of an image sent since. Gap: longest time without a "
        "mask while the fault lasts, of the cameras that it does not concern. Seconds; of episodes with one fault.",
        "",
        "| fault | times | recovery, median | longest | gap, median | longest |",
        "|---|---|---|---|---|---|",
        *_fault_rows(outcome),
    ]
    return "\n".join(lines) + "\n"


def _camera_rows(outcome: Outcome) -> list[str]:
    rows = []
    for name, checks in outcome.checks.items():
        ages_ms = 1e3 * np.array(checks.ages_s)
        lasted_s = checks.arrived_s[-1] - outcome.began_s if len(ages_ms) else 1.0
        p50, p99 = np.percentile(ages_ms, (50, 99)) if len(ages_ms) else (0.0, 0.0)
        rate_hz = len(ages_ms) / lasted_s
        rows.append(f"| {name} | {checks.sent_count} | {len(ages_ms)} | {rate_hz:.1f} | {p50:.1f} | {p99:.1f} |")
    return rows


def _fault_rows(outcome: Outcome) -> list[str]:
    by_name: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for each in outcome.endured:
        recovery_s = float("inf") if each.recovery_s is None else each.recovery_s
        by_name[each.name].append((recovery_s, float("nan") if each.gap_s is None else each.gap_s))
    rows = []
    for name, seconds in by_name.items():
        if " + " in name:
            continue
        recovery, gap = np.array(seconds).T
        gaps = "| |" if np.isnan(gap).all() else f"{np.nanmedian(gap):.2f} | {np.nanmax(gap):.2f} |"
        rows.append(f"| {name} | {len(seconds)} | {np.median(recovery):.2f} | {recovery.max():.2f} | {gaps}")
    pairs = [seconds for name, seconds in by_name.items() if " + " in name]
    if pairs:
        together = [recovery for seconds in pairs for recovery, _ in seconds]
        rows.append(f"| two at a time | {len(together)} | {np.median(together):.2f} | {max(together):.2f} | | |")
    return rows


def _charts(outcome: Outcome) -> dict[str, str]:
    """File names and SVG."""
    charts = {}
    if outcome.memory is not None and len(outcome.memory.at_s) > 1:
        minutes = (np.array(outcome.memory.at_s) - outcome.began_s) / 60
        megabytes = np.array([sample.memory_mb for sample in outcome.memory.figures])
        charts["memory.svg"] = line_chart(
            minutes,
            megabytes,
            x_title="minutes",
            y_title="private memory of the node, MB",
            levels=_line(outcome, minutes),
        )
    for name, checks in outcome.checks.items():
        arrived_s = np.array(checks.arrived_s) - outcome.began_s
        if len(arrived_s) < 2:
            continue
        edges = np.arange(0.0, max(arrived_s[-1], BIN_S) + BIN_S, BIN_S)
        counts, _ = np.histogram(arrived_s, edges)
        whole = slice(0, max(1, len(counts) - 1))  # the last bin is cut off
        middle = ((edges[:-1] + edges[1:]) / 120)[whole]
        charts[f"masks_{name}.svg"] = line_chart(
            middle, (counts / BIN_S)[whole], x_title="minutes", y_title=f"masks a second, {name}"
        )
    ends = np.array([each.end_s / 60 for each in outcome.endured])
    seconds = np.array([np.nan if each.recovery_s is None else each.recovery_s for each in outcome.endured])
    if len(ends):
        # A gap between any two makes dots of them.
        x, y = np.repeat(ends, 2), np.stack([seconds, np.full_like(seconds, np.nan)], axis=1).ravel()
        charts["recovery.svg"] = line_chart(x, y, x_title="minutes", y_title="recovery after each fault, seconds")
    return charts


def _line(outcome: Outcome, minutes: np.ndarray) -> dict[str, float]:
    """A level for the mean that the slope is taken over."""
    assert outcome.memory is not None
    later = minutes >= minutes[0] + LEFT_OUT * (minutes[-1] - minutes[0])
    megabytes = np.array([sample.memory_mb for sample in outcome.memory.figures])[later]
    slope: Slope | None = outcome.slope
    return {} if slope is None else {f"mean {megabytes.mean():.0f} MB, {slope}": float(megabytes.mean())}


def _alone(chart: str) -> str:
    head, _, rest = chart.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg" width="640">{_STYLE}{rest}\n'


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def _memory(outcome: Outcome) -> list[tuple[float, float]]:
    """Seconds since the run began, and megabytes, of every sample."""
    if outcome.memory is None:
        return []
    pairs = zip(outcome.memory.at_s, outcome.memory.figures, strict=True)
    return [(round(at_s - outcome.began_s, 1), round(sample.memory_mb, 2)) for at_s, sample in pairs]


def _facts(outcome: Outcome) -> dict[str, object]:
    slope = outcome.slope
    return {
        "settings": asdict(outcome.settings),
        "machine": outcome.machine,
        "verdicts": [asdict(verdict) for verdict in outcome.verdicts()],
        "memory_mb_per_minute": None if slope is None else asdict(slope),
        "violations": {name: dict(checks.violations) for name, checks in outcome.checks.items()},
        "notes": outcome.notes,
        "episodes": [asdict(each) for each in outcome.endured],
        "memory_mb": _memory(outcome),
    }
