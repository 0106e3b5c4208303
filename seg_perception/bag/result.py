"""What an evaluation comes to: the figures, the frames kept to look at, and the content of report.json."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seg_perception.bag.metrics import SparseCounts, percentiles, scores
from seg_perception.model.model_file import ModelInfo


@dataclass(frozen=True)
class FramePicture:
    """One frame kept for the report, reduced to PICTURE_WIDTH.

    Attributes:
        index: its number among the frames, from 0.
        stamp_ns: of its header.
        miou: of this frame alone over the classes in its labels; NaN without labels.
        mean_confidence: 0..1; NaN where there is none.
        latency_ms: of this frame.
        rgb: uint8 [h, w, 3].
        predicted: uint8 [h, w].
        labels: uint8 [h, w], or None.
        superpixels: uint16 [h, w], or None.
    """

    index: int
    stamp_ns: int
    miou: float
    mean_confidence: float
    latency_ms: float
    rgb: np.ndarray
    predicted: np.ndarray
    labels: np.ndarray | None
    superpixels: np.ndarray | None


@dataclass
class EvaluationResult:
    """All that a report tells.

    Attributes:
        model: the model's own account of itself.
        engine, engine_description: its name; version, device and settings.
        frames_in: images that came.
        frames_out: masks that were made of them.
        drop_reasons: why the others have none, with counts; frames_dropped is what is missing in all.
        confusion: int64 [K, K + 1], or None where there were no labels.
        labelled_frames: frames with labels.
        stamps_ns, latencies_ms, frame_miou: one value a mask, in their order; frame_miou is NaN without labels.
        frame_confusion: the counts of each mask alone, None without labels.
        stages_ms: durations of each stage, one value a mask.
        latency_meaning: from where to where a latency is measured.
        samples: frames spread over the whole; worst: those with the lowest score.
        image_sizes: (width, height) of the images that came, with counts.
        source: what was evaluated, for people: bag, topics.
        warnings: one line each.
        wall_s: how long it took from the first frame to the last.
        environment: what it ran on.
        truncated: whether the recording is cut short or damaged.
        files: other files beside the report, by what they are.
        video_frames_per_second: of the file "video", which has one frame a mask.
    """

    model: ModelInfo
    engine: str
    engine_description: str
    frames_in: int
    frames_out: int
    drop_reasons: dict[str, int]
    confusion: np.ndarray | None
    labelled_frames: int
    stamps_ns: np.ndarray
    latencies_ms: np.ndarray
    frame_miou: np.ndarray
    frame_confusion: Sequence[SparseCounts | None]
    stages_ms: dict[str, np.ndarray]
    latency_meaning: str
    samples: Sequence[FramePicture]
    worst: Sequence[FramePicture]
    image_sizes: dict[tuple[int, int], int]
    source: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    wall_s: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)
    truncated: bool = False
    files: dict[str, str] = field(default_factory=dict)
    video_frames_per_second: float = 0.0

    @property
    def frames_dropped(self) -> int:
        return self.frames_in - self.frames_out

    @property
    def frames_per_second(self) -> float | None:
        """Masks a second over the whole run."""
        return self.frames_out / self.wall_s if self.wall_s > 0 else None

    @property
    def miou(self) -> float | None:
        return None if self.confusion is None else _number(scores(self.confusion).miou)

    @property
    def pixel_accuracy(self) -> float | None:
        return None if self.confusion is None else _number(scores(self.confusion).pixel_accuracy)

    @property
    def iou(self) -> dict[str, float | None]:
        """By class name; None for classes that the labels do not have."""
        names = self.model.class_names
        if self.confusion is None:
            return dict.fromkeys(names)
        return {name: _number(value) for name, value in zip(names, scores(self.confusion).iou, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json, in plain JSON types."""
        return {
            "miou": self.miou,
            "pixel_accuracy": self.pixel_accuracy,
            "iou": self.iou,
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "frames_dropped": self.frames_dropped,
            "latency_ms": percentiles(self.latencies_ms),
            "engine": self.engine,
            "model": self.model.name,
            "frames_labelled": self.labelled_frames,
            "drop_reasons": self.drop_reasons,
            "frames_per_second": self.frames_per_second,
            "wall_s": self.wall_s,
            "latency_meaning": self.latency_meaning,
            "stages_ms": {name: percentiles(values) for name, values in self.stages_ms.items()},
            "image_sizes": {f"{width}x{height}": count for (width, height), count in self.image_sizes.items()},
            "engine_description": self.engine_description,
            "model_info": self.model.to_dict(),
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "source": self.source,
            "truncated": self.truncated,
            "warnings": self.warnings,
            "environment": self.environment,
            "files": self.files,
        }

    def summary(self) -> list[str]:
        """Four lines for the terminal."""
        latency = percentiles(self.latencies_ms)
        if self.miou is None or self.pixel_accuracy is None:
            score = "none: the frames have no labels"
        else:
            present = sum(value is not None for value in self.iou.values())
            score = f"mIoU {self.miou:.4f} over {present} classes, pixel accuracy {self.pixel_accuracy:.4f}"
        times = (
            "none" if latency["p50"] is None else ", ".join(f"{name} {value:.1f} ms" for name, value in latency.items())
        )
        rate = "" if self.frames_per_second is None else f", {self.frames_per_second:.1f} frames/s"
        return [
            f"scores      {score}",
            f"frames      {self.frames_in} in, {self.frames_out} out, {self.frames_dropped} dropped{rate}",
            f"latency     {times}",
            f"engine      {self.engine_description}, model {self.model.name}",
        ]

    def to_json(self) -> str:
        """report.json as text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
