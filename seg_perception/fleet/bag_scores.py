"""The scores of one recording, as its worker leaves them in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

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


def score_bag(job: Job) -> None:
    """Score a recording and leave the scores in `job.result`, which is whole or not there.

    Raises:
        BagError, ModelFileError, EngineError: see `evaluate_bag`.
        OSError: the result cannot be written.
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
    content = {
        "bag": str(job.bag),
        "confusion": None if result.confusion is None else result.confusion.tolist(),
        "frames": result.frames_out,
        "frames_dropped": result.frames_dropped,
        "frames_labelled": result.labelled_frames,
        "moments": [asdict(moment) for moment in worst_moments(str(job.bag), result, options.window)],
        "warnings": result.warnings,
        "wall_s": result.wall_s,
    }
    beside = job.result.with_name(f".{job.result.name}.{os.getpid()}.part")
    beside.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    beside.replace(job.result)


def read_scores(path: Path) -> BagScores:
    """What `score_bag` left."""
    content = json.loads(path.read_text(encoding="utf-8"))
    confusion = content.pop("confusion")
    moments = [Moment(**moment) for moment in content.pop("moments")]
    return BagScores(confusion=None if confusion is None else np.array(confusion, np.int64), moments=moments, **content)


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


def _pooled(frames: Sequence[SparseCounts | None], shape: tuple[int, ...]) -> np.ndarray:
    counts = np.zeros(shape, np.int64)
    for frame in frames:
        if frame is not None:
            counts.ravel()[frame.cells] += frame.pixels
    return counts
