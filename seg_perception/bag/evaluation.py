"""Collects frames and their segmentations into one result: scores, latencies, pictures worth looking at.

Used by evaluate-bag, which segments a recording itself, and by the demo, which listens to a running node.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import cv2
import numpy as np

from seg_perception.bag.metrics import ConfusionMatrix, percentiles, scores
from seg_perception.model_file import ModelInfo
from seg_perception.segmenter import Segmentation

PICTURE_WIDTH = 480  # pixels; kept frames are reduced to it, so that a long recording does not fill the memory
SAMPLE_FRAMES = 8
WORST_FRAMES = 4

Item = TypeVar("Item")


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


class Evaluation:
    """Takes frames one after the other; `result` sums them up. One thread at a time.

    Args:
        info: the model that made the segmentations.
        latency_meaning: from where to where the latencies are measured, for the reader of the report.
    """

    def __init__(self, info: ModelInfo, latency_meaning: str) -> None:
        self._info = info
        self._latency_meaning = latency_meaning
        self._confusion = ConfusionMatrix(info.num_classes)
        self._labelled_frames = 0
        self._stamps_ns: list[int] = []
        self._latencies_ms: list[float] = []
        self._frame_miou: list[float] = []
        self._stages_ms: dict[str, list[float]] = {}
        self._image_sizes: Counter[tuple[int, int]] = Counter()
        self._samples: BlockKeeper[FramePicture] = BlockKeeper(2 * SAMPLE_FRAMES)
        self._worst: BlockKeeper[FramePicture] = BlockKeeper(4 * WORST_FRAMES)

    @property
    def frames_out(self) -> int:
        """Frames taken so far."""
        return len(self._stamps_ns)

    @property
    def miou(self) -> float:
        """Of the frames so far; NaN without labels."""
        return self._confusion.scores().miou

    def add(
        self,
        rgb: np.ndarray,
        predicted: Segmentation,
        labels: np.ndarray | None = None,
        *,
        latency_ms: float,
        stamp_ns: int,
    ) -> None:
        """Take one frame.

        Args:
            rgb: uint8 [H, W, 3].
            predicted: its segmentation, of the same size.
            labels: uint8 [H, W], true classes, 255 = not labelled; None for a frame without labels.
            latency_ms: how long the segmentation took.
            stamp_ns: the header's time.

        Raises:
            LabelIdError: an id is no class of the model.
            ValueError: sizes differ.
        """
        frame_miou = math.nan
        if labels is not None:
            frame_miou = scores(self._confusion.add(labels, predicted.labels)).miou
            self._labelled_frames += 1
        index = self.frames_out
        self._stamps_ns.append(stamp_ns)
        self._latencies_ms.append(latency_ms)
        self._frame_miou.append(frame_miou)
        for stage, duration_ms in predicted.timings_ms.items():
            self._stages_ms.setdefault(stage, []).append(duration_ms)
        self._image_sizes[(rgb.shape[1], rgb.shape[0])] += 1
        confidence = math.nan if predicted.confidence is None else cv2.mean(predicted.confidence)[0] / 255.0
        # Without labels the least confident frames are the ones to look at.
        badness = confidence if math.isnan(frame_miou) else frame_miou

        def picture() -> FramePicture:
            return FramePicture(
                index,
                stamp_ns,
                frame_miou,
                confidence,
                latency_ms,
                _reduced(rgb, cv2.INTER_AREA),
                _reduced(predicted.labels, cv2.INTER_NEAREST_EXACT),
                None if labels is None else _reduced(labels, cv2.INTER_NEAREST_EXACT),
                None if predicted.superpixels is None else _reduced(predicted.superpixels, cv2.INTER_NEAREST_EXACT),
            )

        self._samples.offer(float(index), picture)
        if not math.isnan(badness):
            self._worst.offer(badness, picture)

    def result(
        self,
        *,
        engine: str,
        engine_description: str,
        frames_in: int,
        drop_reasons: dict[str, int] | None = None,
        source: dict[str, str] | None = None,
        warnings: Sequence[str] = (),
        wall_s: float = 0.0,
        environment: dict[str, str] | None = None,
        truncated: bool = False,
    ) -> EvaluationResult:
        """Sum up the frames taken; arguments as the attributes of `EvaluationResult`."""
        samples = self._samples.kept()
        chosen = sorted(
            {round(number) for number in np.linspace(0, len(samples) - 1, SAMPLE_FRAMES)} if samples else ()
        )
        worst = sorted(
            self._worst.kept(), key=lambda frame: frame.mean_confidence if math.isnan(frame.miou) else frame.miou
        )
        return EvaluationResult(
            model=self._info,
            engine=engine,
            engine_description=engine_description,
            frames_in=frames_in,
            frames_out=self.frames_out,
            drop_reasons=dict(drop_reasons or {}),
            confusion=self._confusion.counts.copy() if self._labelled_frames else None,
            labelled_frames=self._labelled_frames,
            stamps_ns=np.array(self._stamps_ns, np.int64),
            latencies_ms=np.array(self._latencies_ms, np.float64),
            frame_miou=np.array(self._frame_miou, np.float64),
            stages_ms={name: np.array(values, np.float64) for name, values in self._stages_ms.items()},
            latency_meaning=self._latency_meaning,
            samples=[samples[number] for number in chosen],
            worst=worst[:WORST_FRAMES],
            image_sizes=dict(self._image_sizes),
            source=dict(source or {}),
            warnings=list(warnings),
            wall_s=wall_s,
            environment=dict(environment or {}),
            truncated=truncated,
        )


class BlockKeeper(Generic[Item]):
    """Keeps the item with the smallest key of every block of a stream whose length is not known.

    Blocks are of equal length; once there are more than `limit`, neighbours are merged and the length doubles. So
    what is kept stays spread over the whole stream, and most items are never even made.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._span = 1
        self._count = 0
        self._blocks: list[tuple[float, Item]] = []

    def offer(self, key: float, make: Callable[[], Item]) -> None:
        """Offer the next item; `make` is called only when it is to be kept."""
        block = self._count // self._span
        self._count += 1
        if block == len(self._blocks):
            self._blocks.append((key, make()))
        elif key < self._blocks[block][0]:
            self._blocks[block] = (key, make())
        if len(self._blocks) > self._limit:
            pairs = [self._blocks[start : start + 2] for start in range(0, len(self._blocks), 2)]
            self._blocks = [min(pair, key=lambda entry: entry[0]) for pair in pairs]
            self._span *= 2

    def kept(self) -> list[Item]:
        """The kept items, in their order."""
        return [item for _, item in self._blocks]


def _reduced(array: np.ndarray, interpolation: int) -> np.ndarray:
    """A copy, at most PICTURE_WIDTH wide."""
    height, width = array.shape[:2]
    if width <= PICTURE_WIDTH:
        return array.copy()
    size = (PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width)))
    return cv2.resize(array, size, interpolation=interpolation)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
