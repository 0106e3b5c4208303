"""One camera's way from a serialized image to its published masks, in the worker's thread."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import cv2
import numpy as np

from seg_perception.body_mask import BodyMask
from seg_perception.cdr import Header
from seg_perception.classes import ClassMap
from seg_perception.labels import overlay
from seg_perception.model.model_file import UNLABELLED, ModelInfo
from seg_perception.ros.frame_decoder import DecodedFrame, FrameDecoder
from seg_perception.ros.frame_statistics import Drop, FrameStatistics
from seg_perception.ros.outputs import Outputs
from seg_perception.ros.parameter_values import CameraParameters
from seg_perception.segmenter import Segmentation, Segmenter
from seg_perception.smoothing import TemporalSmoother
from seg_perception.superpixel_labels import superpixel_labels

NEED_LABELS = {"labels", "foreground", "overlay"}
Smoothing = Callable[[dict[str, np.ndarray], np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Frame:
    """A serialized image message and when it came (perf_counter seconds)."""

    serialized: bytes
    arrival_s: float


@dataclass(frozen=True)
class Serving:
    """What a camera's masks are made and published with; changes between two frames.

    Attributes:
        info: of the model that serves.
        classes: what becomes of the model's classes.
        outputs: publishers.
    """

    info: ModelInfo
    classes: ClassMap
    outputs: Outputs


class FramePipeline:
    """Works on one camera's frames, one after the other.

    Args:
        decoder: of the frames.
        statistics: told of every frame.
        values: the camera's parameters at present.
        serving: what it is served with at present.
        body: pixels that get no label; None: there are none.
        now_ns: the node's clock, for the age of a frame.
    """

    def __init__(
        self,
        decoder: FrameDecoder,
        statistics: FrameStatistics,
        values: Callable[[], CameraParameters],
        serving: Callable[[], Serving],
        body: BodyMask | None,
        now_ns: Callable[[], int],
    ) -> None:
        self._decoder = decoder
        self._statistics = statistics
        self._values = values
        self._serving = serving
        self._body = body
        self._now_ns = now_ns
        self._smoother = TemporalSmoother()
        self._smoothed: Callable[[], Segmenter | None] = lambda: None  # whose scores the mean is of

    def process(self, frame: Frame, segmenter: Segmenter) -> None:
        """Decode, segment and publish one frame.

        Raises:
            ImageError: it cannot be used.
            EngineError: the engine failed.
        """
        serving = self._serving()
        wanted = serving.outputs.wanted()
        if not wanted:
            self._statistics.dropped(Drop.UNWANTED)
            return
        start_s = perf_counter()
        image = self._decoder.decode(frame.serialized)
        decoded_s = perf_counter()
        values = self._values()
        publication = _Publication(image, serving, wanted, self._body, values.overlay_alpha)
        # Labels are what a robot waits for: they go out before the confidence is made, unless they depend on it.
        is_by_confidence = serving.classes.has_thresholds and bool(wanted & NEED_LABELS)
        result = segmenter.segment(
            image.rgb,
            "confidence" in wanted or is_by_confidence,
            "superpixels" in wanted,
            None if is_by_confidence else publication.publish_labels,
            values.size.of((image.rgb.shape[0], image.rgb.shape[1]), serving.info.input_size),
            self._smoothing(values.smoothing, image.header, segmenter),
            bool(wanted & NEED_LABELS),
        )
        segmented_s = perf_counter()
        early_s = publication.spent_s
        if is_by_confidence:
            publication.publish_labels(result)
        publication.publish_rest(result)
        done_s = perf_counter()
        stages_ms = {
            "wait": 1e3 * (start_s - frame.arrival_s),
            "decode": 1e3 * (decoded_s - start_s),
            **result.timings_ms,
            "publish": 1e3 * (early_s + done_s - segmented_s),
        }
        age_ms = (self._now_ns() - image.header.stamp_ns) / 1e6
        self._statistics.published(1e3 * (done_s - frame.arrival_s), age_ms, stages_ms)

    def _smoothing(self, weight: float, header: Header, segmenter: Segmenter) -> Smoothing | None:
        """What makes the mean over time of a frame's scores; None where that is off."""
        if weight == 0:
            return None
        if segmenter is not self._smoothed():
            self._smoother.reset()
            self._smoothed = weakref.ref(segmenter)
        return lambda outputs, image: self._smoother.smooth(outputs, image, 1e-9 * header.stamp_ns, weight)


class _Publication:
    """The masks of one frame.

    Attributes:
        spent_s: what making and publishing them has taken.
    """

    def __init__(
        self, image: DecodedFrame, serving: Serving, wanted: set[str], body: BodyMask | None, overlay_alpha: float
    ) -> None:
        self._image = image
        self._info = serving.info
        self._classes = serving.classes
        self._outputs = serving.outputs
        self._wanted = wanted
        self._body = body
        self._overlay_alpha = overlay_alpha
        self._labels = np.empty((0, 0), np.uint8)  # the robot's
        self.spent_s = 0.0

    def publish_labels(self, result: Segmentation) -> None:
        """Labels, and what goes out with them."""
        start_s = perf_counter()
        if self._wanted & NEED_LABELS:
            self._labels = self._own_labels(result)
            self._publish("labels", self._labels)
        if "foreground" in self._wanted:
            self._publish("foreground", self._classes.foreground_of(self._labels))
        if "superpixel_labels" in self._wanted and result.class_logits is not None:
            self._publish("superpixel_labels", self._superpixel_labels(result.class_logits))
        if result.superpixels is not None:
            self._publish("superpixels", result.superpixels)
        self.spent_s += perf_counter() - start_s

    def publish_rest(self, result: Segmentation) -> None:
        """What can wait until the labels are out."""
        if "confidence" in self._wanted and result.confidence is not None:
            self._publish("confidence", self._outside_body(result.confidence))
        if "overlay" in self._wanted:
            rgb = self._image.rgb
            if _size(rgb) != _size(self._labels):
                rgb = cv2.resize(rgb, self._labels.shape[::-1], interpolation=cv2.INTER_AREA)
            self._publish("overlay", overlay(rgb, self._labels, self._classes.palette, self._overlay_alpha))

    def _own_labels(self, result: Segmentation) -> np.ndarray:
        """The robot's labels of the model's: uint8 [H, W]."""
        labels = self._classes.apply(result.labels, result.confidence)
        return labels if self._body is None else cv2.bitwise_or(labels, self._body.at(_size(labels)))  # 255: no label

    def _superpixel_labels(self, class_logits: np.ndarray) -> np.ndarray:
        """The robot's class of each superpixel: uint8 [R, C], of the scores float [R, C, K]."""
        labels = self._classes.apply(*superpixel_labels(class_logits))
        geometry = self._info.geometry
        if self._body is None or geometry is None:
            return labels
        return np.where(
            self._body.in_cells(geometry.input_size, geometry.grid, geometry.cell), np.uint8(UNLABELLED), labels
        )

    def _outside_body(self, mask: np.ndarray) -> np.ndarray:
        """0 on the robot's body."""
        return mask if self._body is None else cv2.subtract(mask, self._body.at(_size(mask)))

    def _publish(self, name: str, pixels: np.ndarray) -> None:
        if name in self._wanted:
            self._outputs.publish(name, self._image.header, pixels)


def _size(mask: np.ndarray) -> tuple[int, int]:
    return mask.shape[0], mask.shape[1]
