"""The scores of one recording: made by a worker, handed over as JSON text, kept in a file a recording."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg_perception.bag.evaluate import EvaluateOptions, evaluate_bag
from seg_perception.bag.metrics import SparseCounts, scores
from seg_perception.bag.result import EvaluationResult
from seg_perception.fleet.jobs import Job

MOMENTS = 20  # the worst ones of each recording are kept; so the worst of the fleet are among them


@dataclass(frozen=True)
class Moment:
    """A window of consecutive frames with labels: its frames from `first` to `last`, and their pooled mIoU."""

    bag: str
    first: int
    last: int
    start_ns: int
    miou: float


@dataclass(frozen=True)
class BagScores:
    """What one recording came to.

    Attributes:
        bag: its path.
        confusion: int64 [K, K + 1], or None without labels.
        frames, frames_dropped, frames_labelled: counts.
        moments: the worst ones, worst first.
        warnings: what was wrong with it, one line each.
        wall_s: how long scoring took.
    """

    bag: str
    confusion: np.ndarray | None
    frames: int
    frames_dropped: int
    frames_labelled: int
    moments: list[Moment]
    warnings: list[str]
    wall_s: float


def score_bag(job: Job) -> str:
    """Score a recording; the scores as JSON text, which `parse_scores` reads.

    Raises:
        BagError, ModelFileError, EngineError: see `evaluate_bag`.
    """
    options = job.options
    result = evaluate_bag(
        EvaluateOptions(
            bag=job.bag,
            model=job.model,
            image_topic=options.image_topic,
            label_topic=options.label_topic,
            engine=options.engine,
            threads=job.threads,
            precision=options.precision,
            max_frames=options.max_frames,
        )
    )
    return scores_text(
        BagScores(
            bag=str(job.bag),
            confusion=result.confusion,
            frames=result.frames_out,
            frames_dropped=result.frames_dropped,
            frames_labelled=result.labelled_frames,
            moments=worst_moments(str(job.bag), result, options.window),
            warnings=result.warnings,
            wall_s=result.wall_s,
        )
    )


def scores_text(of: BagScores) -> str:
    """As JSON. The counts go without their zeros: of 150 classes most never meet."""
    return json.dumps(asdict(of) | {"confusion": _sparse(of.confusion)}, allow_nan=False)


def parse_scores(text: str, bag: str) -> BagScores:
    """What `scores_text` wrote, of the recording that is called `bag` now: its path may have been another one, by a link.

    Raises:
        ValueError: it is something else, such as a file that is cut off.
    """
    try:
        content = json.loads(text)
        confusion, moments = content.pop("confusion"), content.pop("moments")
        return BagScores(
            confusion=_dense(confusion),
            moments=[Moment(**moment | {"bag": bag}) for moment in moments],
            **content | {"bag": bag},
        )
    except (TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"no scores of a recording: {error}") from error


def worst_moments(bag: str, result: EvaluationResult, window: int) -> list[Moment]:
    """The MOMENTS windows of `window` frames with the lowest mIoU, worst first; windows do not overlap."""
    if result.confusion is None:
        return []
    moments = []
    for first in range(0, result.frames_out, window):
        last = min(first + window, result.frames_out) - 1
        counts = _pooled(result.frame_confusion[first : last + 1], result.confusion.shape)
        if counts.any():
            moments.append(Moment(bag, first, last, int(result.stamps_ns[first]), scores(counts).miou))
    return sorted(moments, key=lambda moment: moment.miou)[:MOMENTS]


def read_scores(path: Path, bag: str) -> BagScores:
    """Of a file, as `parse_scores`.

    Raises:
        OSError, ValueError: it cannot be read, or `parse_scores` cannot.
    """
    return parse_scores(path.read_text(encoding="utf-8"), bag)


def write_scores(path: Path, text: str) -> None:
    """Into a file, which is whole or not there.

    Raises:
        OSError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _pooled(frames: Sequence[SparseCounts | None], shape: tuple[int, ...]) -> np.ndarray:
    counts = np.zeros(shape, np.int64)
    for frame in frames:
        if frame is not None:
            counts.ravel()[frame.cells] += frame.pixels
    return counts


def _sparse(confusion: np.ndarray | None) -> dict[str, Any] | None:
    if confusion is None:
        return None
    cells = np.flatnonzero(confusion)
    return {"classes": confusion.shape[0], "cells": cells.tolist(), "pixels": confusion.ravel()[cells].tolist()}


def _dense(content: dict[str, Any] | None) -> np.ndarray | None:
    if content is None:
        return None
    confusion = np.zeros((content["classes"], content["classes"] + 1), np.int64)
    confusion.ravel()[content["cells"]] = content["pixels"]
    return confusion
