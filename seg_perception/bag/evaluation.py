"""Collects frames and their segmentations into one result: scores, latencies, pictures worth looking at.

Used by evaluate-bag, which segments a recording itself, and by the demo, which listens to a running node.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import cv2
import numpy as np

from seg_perception.bag.metrics import ConfusionMatrix, SparseCounts, scores
from seg_perception.bag.result import EvaluationResult, FramePicture
from seg_perception.model.model_file import ModelInfo
from seg_perception.segmenter import Segmentation

PICTURE_WIDTH = 480  # pixels; kept frames are reduced to it, so that a long recording does not fill the memory
SAMPLE_FRAMES = 8
WORST_FRAMES = 4

Item = TypeVar("Item")


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
        self._frame_confusion: list[SparseCounts | None] = []
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
        frame_confusion = None
        if labels is not None:
            counts = self._confusion.add(labels, predicted.labels)
            frame_miou = scores(counts).miou
            frame_confusion = SparseCounts.of(counts)
            self._labelled_frames += 1
        index = self.frames_out
        self._stamps_ns.append(stamp_ns)
        self._latencies_ms.append(latency_ms)
        self._frame_miou.append(frame_miou)
        self._frame_confusion.append(frame_confusion)
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
            frame_confusion=list(self._frame_confusion),
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
