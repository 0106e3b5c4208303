"""The worker thread: newest image in, segmented, messages out.

The executor's thread only leaves serialized messages in the mailbox. Here they are decoded, segmented and published,
so that no inference ever delays a service call, a parameter or a transition.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from seg_perception.cdr import write_image
from seg_perception.engines.base import EngineError
from seg_perception.images import ImageError
from seg_perception.labels import overlay
from seg_perception.ros.frame_decoder import FrameDecoder
from seg_perception.ros.frame_statistics import FrameStatistics
from seg_perception.ros.mailbox import Mailbox
from seg_perception.ros.model_slot import ModelSlot
from seg_perception.segmenter import Segmentation, Segmenter

LONGEST_ERROR = 400  # letters that reach log and diagnostics


@dataclass(frozen=True)
class Frame:
    """A serialized image message and when it came (perf_counter seconds)."""

    serialized: bytes
    arrival_s: float


@dataclass(frozen=True)
class Outputs:
    """The publishers of one camera's results."""

    labels: Any
    confidence: Any
    superpixels: Any | None
    overlay: Any

    def wanted(self) -> dict[str, bool]:
        """Which outputs somebody subscribes to."""
        publishers = {"labels": self.labels, "confidence": self.confidence, "overlay": self.overlay}
        if self.superpixels is not None:
            publishers["superpixels"] = self.superpixels
        return {name: publisher.get_subscription_count() > 0 for name, publisher in publishers.items()}


class Worker:
    """Segments the frames of a mailbox until the mailbox is closed.

    Args:
        mailbox: where the camera callback leaves frames.
        models: its segmenter is taken anew for each frame, and used by this thread only.
        outputs: publishers.
        decoder: of the frames.
        statistics: told of every frame.
        overlay_alpha: weight of the colours in the overlay, asked anew for each one.
        now_ns: the node's clock, for the age of a frame.
        report: called with one line for each frame that cannot be used.
    """

    def __init__(
        self,
        mailbox: Mailbox[Frame],
        models: ModelSlot,
        outputs: Outputs,
        decoder: FrameDecoder,
        statistics: FrameStatistics,
        overlay_alpha: Callable[[], float],
        now_ns: Callable[[], int],
        report: Callable[[str], None],
    ) -> None:
        self._mailbox = mailbox
        self._models = models
        self._outputs = outputs
        self._decoder = decoder
        self._statistics = statistics
        self._overlay_alpha = overlay_alpha
        self._now_ns = now_ns
        self._report = report
        self._thread = threading.Thread(target=self._run, name="segmentation worker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def publish_to(self, outputs: Outputs) -> None:
        """Other publishers; only between two frames, see `ModelSlot.replace`."""
        self._outputs = outputs

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the frame in hand; the mailbox must have been closed. False if that takes longer."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while (frame := self._mailbox.take()) is not None:
            try:
                with self._models.serving() as segmenter:
                    self._process(frame, segmenter)
            except (ImageError, EngineError) as error:
                self._fail(str(error))
            except Exception as error:
                # One broken frame must not end the stream, whatever it broke.
                if self._mailbox.closed:
                    return  # publishers are going away under a frame in hand
                self._fail(f"unexpected {type(error).__name__}: {' '.join(str(error).split())}")

    def _fail(self, error: str) -> None:
        if len(error) > LONGEST_ERROR:  # a sender's own text may be in it
            error = f"{error[:LONGEST_ERROR]}..."
        self._statistics.failed(error)
        self._report(error)

    def _process(self, frame: Frame, segmenter: Segmenter) -> None:
        wanted = self._outputs.wanted()
        if not any(wanted.values()):
            self._statistics.unwanted()
            return
        start_s = perf_counter()
        image = self._decoder.decode(frame.serialized)
        decoded_s = perf_counter()
        publishing_s = 0.0

        def publish_early(result: Segmentation) -> None:
            """Labels are what a robot waits for: they go out before the confidence is made."""
            nonlocal publishing_s
            begin_s = perf_counter()
            if wanted["labels"]:
                self._outputs.labels.publish(write_image(image.header, "mono8", result.labels))
            if result.superpixels is not None and self._outputs.superpixels is not None:
                self._outputs.superpixels.publish(write_image(image.header, "16UC1", result.superpixels))
            publishing_s += perf_counter() - begin_s

        want_superpixels = wanted.get("superpixels", False)
        result = segmenter.segment(image.rgb, wanted["confidence"], want_superpixels, publish_early)
        segmented_s = perf_counter()
        if result.confidence is not None:
            self._outputs.confidence.publish(write_image(image.header, "mono8", result.confidence))
        if wanted["overlay"]:
            tinted = overlay(image.rgb, result.labels, segmenter.info.palette, self._overlay_alpha())
            self._outputs.overlay.publish(write_image(image.header, "rgb8", tinted))
        done_s = perf_counter()
        publishing_s += done_s - segmented_s
        stages_ms = {
            "wait": 1e3 * (start_s - frame.arrival_s),
            "decode": 1e3 * (decoded_s - start_s),
            **result.timings_ms,
            "publish": 1e3 * publishing_s,
        }
        age_ms = (self._now_ns() - image.header.stamp_ns) / 1e6
        self._statistics.published(1e3 * (done_s - frame.arrival_s), age_ms, stages_ms)
