"""Writes what an evaluation came to: report.json for programs, report.html for people, in one file without links out."""

from __future__ import annotations

from pathlib import Path

from seg_perception.bag.report_page import report_page
from seg_perception.bag.result import EvaluationResult

JSON_NAME = "report.json"
PAGE_NAME = "report.html"


def write_report(out_dir: str | Path, result: EvaluationResult) -> tuple[Path, Path]:
    """Write report.json and report.html into `out_dir`, which is made; returns their paths.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    json_path, page_path = out_dir / JSON_NAME, out_dir / PAGE_NAME
    # Both are made before either is replaced: what was there before stays until there is a whole new one.
    for path, text in ((json_path, result.to_json()), (page_path, report_page(result))):
        _beside(path).write_text(text, encoding="utf-8")
    for path in (json_path, page_path):
        _beside(path).replace(path)
    return json_path, page_path


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")
