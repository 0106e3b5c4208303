"""One camera's way from a serialized image to its published masks, in the worker's thread."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from seg_perception.body_mask import BodyMask
from seg_perception.cdr import Header
from seg_perception.engines.base import MaskRequest
from seg_perception.ros.camera_health import CameraHealth
from seg_perception.ros.frame_decoder import DecodedFrame, FrameDecoder
from seg_perception.ros.frame_statistics import Drop, FrameStatistics
from seg_perception.ros.parameter_values import CameraParameters
from seg_perception.ros.publication import POINTS, PointSink, Publication, Serving
from seg_perception.ros.work_in_hand import INFER, PUBLISH, WorkInHand
from seg_perception.segmenter import Segmentation, Segmenter
from seg_perception.smoothing import TemporalSmoother

Smoothing = Callable[[dict[str, np.ndarray], np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Frame:
    """A serialized image message and when it came (perf_counter seconds)."""

    serialized: bytes
    arrival_s: float


class FramePipeline:
    """Works on one camera's frames, one after the other.

    Args:
        decoder: of the frames.
        statistics: told of every frame.
        values: the camera's parameters at present.
        serving: what it is served with at present.
        body: pixels that get no label; None: there are none.
        now_ns: the node's clock, for the age of a frame.
        health: shown a frame's masks now and then.
        points: given the masks where it wants them; None: there are none.
    """

    def __init__(
        self,
        decoder: FrameDecoder,
        statistics: FrameStatistics,
        values: Callable[[], CameraParameters],
        serving: Callable[[], Serving],
        body: BodyMask | None,
        now_ns: Callable[[], int],
        health: CameraHealth,
        points: PointSink | None,
    ) -> None:
        self._decoder = decoder
        self._statistics = statistics
        self._values = values
        self._serving = serving
        self._body = body
        self._now_ns = now_ns
        self._health = health
        self._points = points
        self._smoother = TemporalSmoother()
        self._smoothed: Callable[[], Segmenter | None] = lambda: None  # whose scores the mean is of

    def prepare(self, frame: Frame, segmenter: Segmenter, hand: WorkInHand) -> FrameJob | None:
        """Decode a frame and see what is wanted of it; None where nobody listens.

        Args:
            frame: to work on.
            segmenter: that will be used for it.
            hand: told of every stage from then on; it raises GivenUpError where nothing more must be done.

        Raises:
            ImageError: it cannot be used.
        """
        serving, values = self._serving(), self._values()
        wanted = serving.outputs.wanted()
        points = self._points if self._points is not None and self._points.wanted else None
        if points is not None:
            wanted.add(POINTS)
        if not wanted:
            self._statistics.dropped(Drop.UNWANTED)
            return None
        start_s = perf_counter()
        image = self._decoder.decode(frame.serialized)
        stages_ms = {"wait": 1e3 * (start_s - frame.arrival_s), "decode": 1e3 * (perf_counter() - start_s)}
        size = values.size.of((image.pixels.shape[0], image.pixels.shape[1]), serving.info.input_size)
        smoothing = self._smoothing(values.smoothing, image.header, segmenter)
        health = self._health if self._health.wants(serving.classes) else None
        publication = Publication(image, serving, wanted, self._body, values.overlay_alpha, hand, points, health)
        return FrameJob(frame, publication, size, smoothing, stages_ms, self._done, hand)

    def _done(self, job: FrameJob, stages_ms: dict[str, float]) -> None:
        age_ms = (self._now_ns() - job.publication.header.stamp_ns) / 1e6
        self._statistics.published(1e3 * (perf_counter() - job.frame.arrival_s), age_ms, job.stages_ms | stages_ms)

    def _smoothing(self, weight: float, header: Header, segmenter: Segmenter) -> Smoothing | None:
        """What makes the mean over time of a frame's scores; None where that is off."""
        geometry = segmenter.info.geometry
        if weight == 0 or geometry is None:
            return None
        if segmenter is not self._smoothed():
            self._smoother.reset()
            self._smoothed = weakref.ref(segmenter)
        return lambda outputs, image: self._smoother.smooth(outputs, image, 1e-9 * header.stamp_ns, weight, geometry.cell)


@dataclass(frozen=True)
class FrameJob:
    """A decoded frame: what is to be done with it, alone or together with other cameras'.

    Attributes:
        frame: as it came.
        publication: of its masks.
        size: (H, W) of these.
        smoothing: see `Segmenter.segment`.
        stages_ms: spent until now.
        done: told of the job and of what the rest has taken.
        hand: told of every stage.
    """

    frame: Frame
    publication: Publication
    size: tuple[int, int]
    smoothing: Smoothing | None
    stages_ms: dict[str, float]
    done: Callable[[FrameJob, dict[str, float]], None]
    hand: WorkInHand

    @property
    def image(self) -> DecodedFrame:
        """The camera's image."""
        return self.publication.image

    @property
    def request(self) -> MaskRequest | None:
        """What is wanted of it together with others; None where it can only be done alone."""
        if self.smoothing is not None:
            return None
        publication = self.publication
        return MaskRequest(self.size, publication.needs_confidence, publication.needs_superpixels)

    def run(self, segmenter: Segmenter) -> None:
        """Segment it alone and publish its masks. Raises EngineError where the engine failed."""
        publication = self.publication
        # Labels are what a robot waits for: they go out before the confidence is made, unless they depend on it.
        early = None if publication.is_by_confidence else self._publish_early
        self.hand.at(INFER)
        result = segmenter.segment(
            self.image.pixels,
            want_confidence=publication.needs_confidence,
            want_superpixels=publication.needs_superpixels,
            on_labels=early,
            size=self.size,
            smooth=self.smoothing,
            want_labels=publication.needs_labels,
            bgr=self.image.bgr,
        )
        self.finish(result, early is not None)

    def _publish_early(self, result: Segmentation) -> None:
        self.publication.publish_labels(result)
        self.hand.at(INFER)  # the confidence may still be made

    def finish(self, result: Segmentation, labels_are_out: bool = False) -> None:
        """Publish what was made of it."""
        self.hand.at(PUBLISH)
        early_s, start_s = self.publication.spent_s, perf_counter()
        if not labels_are_out:
            self.publication.publish_labels(result)
        self.publication.publish_rest(result)
        self.hand.at(PUBLISH)
        self.done(self, result.timings_ms | {"publish": 1e3 * (early_s + perf_counter() - start_s)})
