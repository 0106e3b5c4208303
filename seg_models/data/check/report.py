"""What a check found, as JSON and in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from seg_models.data.check.examine import PROBLEM_KINDS
from seg_models.data.check.summary import DataSummary, SplitSummary

TOLD = 10  # problems of each kind in words; the JSON has more
SIZES = 3


def to_dict(summary: DataSummary) -> dict[str, Any]:
    """In plain JSON types; `share` is of the labelled pixels of the split."""
    return {
        "root": str(summary.root),
        "kind": summary.kind,
        "splits": {split: _split(summary, of) for split, of in summary.splits.items()},
        "problem_counts": {kind: summary.counts[kind] for kind in PROBLEM_KINDS if summary.counts[kind]},
        "problems": [
            {"kind": problem.kind, "split": problem.split, "message": problem.message} for problem in summary.problems
        ],
        "notes": notes(summary),
    }


def notes(summary: DataSummary) -> list[str]:
    """What may be meant so, a line each."""
    found = []
    for split, of in summary.splits.items():
        missing = [name for name, pixels in zip(summary.table.names, of.pixels, strict=True) if not pixels]
        if missing:
            found.append(f"{split} has no pixel of {_some(missing)}")
        if of.blank:
            found.append(f"{split} has {of.blank} images without a labelled pixel")
        if of.repeated:
            found.append(f"{split} has {of.repeated} images that equal another one of it")
    return found


def lines(summary: DataSummary) -> Iterator[str]:
    """For the terminal."""
    for split, of in summary.splits.items():
        sizes = ", ".join(f"{width}x{height}: {count}" for (height, width), count in of.sizes.most_common(SIZES))
        more = f", {len(of.sizes) - SIZES} more" if len(of.sizes) > SIZES else ""
        labelled = int(of.pixels.sum())
        share = labelled / max(labelled + of.unlabelled, 1)
        yield f"{split:<12}{of.images} images with masks ({sizes}{more}), {share:.1%} of the pixels labelled"
    splits = list(summary.splits.values())
    width = max(len(name) for name in summary.table.names)
    yield ""
    heads = "".join(f"{split:>12}  {'images':>8}" for split in summary.splits)
    yield f"{'class':<{width + 5}}{heads}"
    for index, name in enumerate(summary.table.names):
        cells = "".join(f"{_share(of, index):>12.4%}  {int(of.shown_in[index]):>8}" for of in splits)
        yield f"{index:>3}  {name:<{width}}{cells}"
    yield ""
    yield from (f"note: {note}" for note in notes(summary))
    for kind in PROBLEM_KINDS:
        of_kind = [problem for problem in summary.problems if problem.kind == kind]
        for problem in of_kind[:TOLD]:
            yield f"problem: {kind} ({problem.split}): {problem.message}"
        if summary.counts[kind] > TOLD:
            yield f"problem: {kind}: {summary.counts[kind] - TOLD} more"
    total = sum(summary.counts.values())
    of_each = ", ".join(f"{summary.counts[kind]} {kind}" for kind in PROBLEM_KINDS if summary.counts[kind])
    yield f"{total} problems: {of_each}" if total else "no problems"


def _split(summary: DataSummary, of: SplitSummary) -> dict[str, Any]:
    return {
        "images": of.images,
        "labelled_pixels": int(of.pixels.sum()),
        "unlabelled_pixels": of.unlabelled,
        "images_without_labels": of.blank,
        "repeated_images": of.repeated,
        "sizes": {f"{width}x{height}": count for (height, width), count in of.sizes.most_common()},
        "classes": {
            name: {"pixels": int(of.pixels[index]), "share": _share(of, index), "images": int(of.shown_in[index])}
            for index, name in enumerate(summary.table.names)
        },
    }


def _share(of: SplitSummary, index: int) -> float:
    return float(of.pixels[index] / max(int(of.pixels.sum()), 1))


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
