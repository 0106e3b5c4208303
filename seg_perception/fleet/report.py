"""Writes what a fleet came to: fleet.json for programs, fleet.html for people, in one file without links out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from seg_perception.bag.metrics import Scores, scores
from seg_perception.fleet.compare import Comparison
from seg_perception.fleet.tally import Tally
from seg_perception.model.model_file import ModelInfo

JSON_NAME = "fleet.json"
PAGE_NAME = "fleet.html"
SHOWN_BAGS = 200  # on the page, of those scored and of those not; fleet.json has all


@dataclass(frozen=True)
class Failure:
    """A recording that could not be scored, with which model and why."""

    bag: str
    model: str
    problem: str


@dataclass(frozen=True)
class FleetResult:
    """What the recordings came to.

    Attributes:
        model, other: the models; `other` is None where nothing is compared.
        tally: scores of the first model.
        failures: recordings without scores.
        comparison: None where nothing is compared or no recording has labels.
    """

    model: ModelInfo
    other: ModelInfo | None
    tally: Tally
    failures: Sequence[Failure]
    comparison: Comparison | None

    def to_dict(self) -> dict[str, Any]:
        """The content of fleet.json, in plain JSON types."""
        confusion, rows = self.tally.confusion, self.tally.ranked()
        merged = None if confusion is None or not confusion.any() else scores(confusion)
        return {
            "model": self.model.name,
            "miou": None if merged is None else merged.miou,
            "pixel_accuracy": None if merged is None else merged.pixel_accuracy,
            "iou": {} if merged is None else self._iou(merged),
            "frames": sum(row.frames for row in rows),
            "frames_dropped": sum(row.frames_dropped for row in rows),
            "frames_labelled": self.tally.frames_labelled,
            "confusion": None if confusion is None else confusion.tolist(),
            "bags": [asdict(row) for row in rows],
            "moments": [asdict(moment) for moment in self.tally.moments],
            "failures": [asdict(failure) for failure in self.failures],
            "other_model": None if self.other is None else self.other.name,
            "comparison": None if self.comparison is None else asdict(self.comparison),
        }

    def _iou(self, merged: Scores) -> dict[str, float | None]:
        values = merged.iou.tolist()
        return {
            name: None if value != value else value for name, value in zip(self.model.class_names, values, strict=True)
        }


def write_fleet_report(out_dir: Path, result: FleetResult) -> tuple[Path, Path]:
    """Write fleet.json and fleet.html into `out_dir`; returns their paths.

    Raises:
        OSError: the folder cannot be written to.
    """
    content = result.to_dict()
    json_path, page_path = out_dir / JSON_NAME, out_dir / PAGE_NAME
    texts = ((json_path, json.dumps(content, indent=2, allow_nan=False) + "\n"), (page_path, fleet_page(content)))
    for path, text in texts:
        path.with_name(f".{path.name}.part").write_text(text, encoding="utf-8")
    for path, _ in texts:
        path.with_name(f".{path.name}.part").replace(path)
    return json_path, page_path


def fleet_page(content: dict[str, Any]) -> str:
    """The page as HTML text, from the content of fleet.json."""
    style = (files("seg_perception.bag") / "report.css").read_text(encoding="utf-8")
    bags, failures, comparison = content["bags"], content["failures"], content["comparison"]
    tiles = [
        ("mean IoU", _figure(content["miou"])),
        ("pixel accuracy", _figure(content["pixel_accuracy"])),
        ("recordings scored", str(len(bags))),
        ("not scored", str(len(failures))),
        ("frames", str(content["frames"])),
    ]
    sections = [
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><span class="soft small">{name}</span><b>{value}</b></div>' for name, value in tiles
        )
        + "</div>"
    ]
    if failures:
        sections.append(
            _table(
                f"Not scored{_shown(failures, 'first')}",
                ("recording", "model", "why"),
                [(f["bag"], f["model"], f["problem"]) for f in failures[:SHOWN_BAGS]],
            )
        )
    if comparison is not None:
        interval = "-" if comparison["low"] is None else f"{comparison['low']:+.4f} to {comparison['high']:+.4f}"
        row = (
            content["other_model"],
            str(comparison["bags"]),
            f"{comparison['miou']:.4f}",
            f"{comparison['other_miou']:.4f}",
            f"{comparison['difference']:+.4f}",
            interval,
        )
        heads = ("other model", "recordings", "mean IoU", "the other's", "difference", "95 % interval over recordings")
        sections.append(_table("Compared", heads, [row]))
    sections += [
        _table(
            f"Recordings, worst first{_shown(bags, 'worst')}",
            ("recording", "mean IoU", "frames", "dropped", "warnings"),
            [
                (b["bag"], _figure(b["miou"]), str(b["frames"]), str(b["frames_dropped"]), "; ".join(b["warnings"]))
                for b in bags[:SHOWN_BAGS]
            ],
        ),
        _table(
            "Moments, worst first",
            ("recording", "frames", "time stamp, s", "mean IoU"),
            [
                (m["bag"], f"{m['first']} to {m['last']}", f"{m['start_ns'] / 1e9:.3f}", _figure(m["miou"]))
                for m in content["moments"]
            ],
        ),
        _table("Classes", ("class", "IoU"), [(name, _figure(value)) for name, value in content["iou"].items()]),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(content['model'])}: fleet report</title>\n<style>\n{style}</style></head>\n<body><main>"
        f'<header><h1>{escape(content["model"])}</h1><p class="soft">Fleet report</p></header>'
        + "\n".join(sections)
        + "</main></body></html>\n"
    )


def _shown(rows: Sequence[Any], which: str) -> str:
    return "" if len(rows) <= SHOWN_BAGS else f", the {which} {SHOWN_BAGS} of {len(rows)}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<section><h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table></section>" if rows else ""
