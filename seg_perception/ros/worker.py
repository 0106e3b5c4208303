"""The worker thread: the newest images of all cameras in, segmented by the one model, masks out.

The executor's thread only leaves serialized messages in the mailbox. Here they are decoded, segmented and published,
so that no inference ever delays a service call, a parameter or a transition.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from seg_perception.engines.base import EngineError
from seg_perception.images import ImageError
from seg_perception.ros.frame_pipeline import Frame, FrameJob
from seg_perception.ros.mailbox import Mailbox
from seg_perception.ros.model_slot import ModelSlot
from seg_perception.ros.work_in_hand import INFER, GivenUpError, Work, WorkInHand
from seg_perception.segmenter import Segmenter

logger = logging.getLogger(__name__)

LONGEST_ERROR = 400  # letters that reach log and diagnostics


class FrameSource(Protocol):
    """A camera, as the worker knows it."""

    @property
    def label(self) -> str:
        """As log lines name it."""

    def prepare(self, frame: Frame, segmenter: Segmenter, hand: WorkInHand) -> FrameJob | None:
        """Decode one of its frames; None where there is nothing to do with it. Raises ImageError."""

    def failed(self, error: str) -> None:
        """Told, in one line, of a frame that could not be used."""

    def given_up(self, error: str, hung: Callable[[], str]) -> None:
        """Told of a frame that hung, which is logged elsewhere; `hung`: what hangs still, empty once it came back."""

    def overtaken(self) -> None:
        """Told of a frame that was taken, but let go for a newer one."""


CameraMailbox = Mailbox[FrameSource, Frame]


class Worker:
    """Segments the frames of a mailbox until the mailbox is closed.

    Args:
        mailbox: where cameras leave frames.
        models: its segmenter is taken anew for each frame, and used by this thread only.

    Attributes:
        hand: what it is at; where it is given up there, the thread ends as soon as it can, and touches nothing any more.
        engine_failures: frames in a row that the engine failed.
    """

    def __init__(self, mailbox: CameraMailbox, models: ModelSlot) -> None:
        self.hand = WorkInHand()
        self.engine_failures = 0
        self._taken: list[tuple[FrameSource, Frame]] = []
        self._at: list[FrameSource] = []  # whose of these are worked on now
        self._mailbox = mailbox
        self._models = models
        self._alone: Callable[[], Segmenter | None] = lambda: None  # which has failed with several images at once
        self._thread = threading.Thread(target=self._run, name="segmentation worker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def thread(self) -> threading.Thread:
        """That works."""
        return self._thread

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the frame in hand; the mailbox must have been closed. False if that takes longer."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def give_up_after(self, limit_s: float) -> Work | None:
        """Give it up if something has been in hand for longer; returns what it was.

        What was in hand counts as failed; what was taken beside it goes back, for another worker.
        """
        hangs, taken = self._at, self._taken  # before: it may come back at this very moment
        work = self.hand.give_up_after(limit_s)
        if work is None:
            return None
        for camera in hangs:
            # In the engine it is the engine's fault, not the camera's.
            camera.given_up(f"{work}: given up", (lambda: "") if work.in_engine else self._what_hangs)
        for camera, frame in taken:
            if camera not in hangs and not self._mailbox.put_back(camera, frame):
                camera.overtaken()
        return work

    def _what_hangs(self) -> str:
        work = self.hand.present
        return str(work) if work is not None and self.is_alive else ""

    def _run(self) -> None:
        try:
            while not self._mailbox.closed:
                # Several cameras' frames at once only where the engine gains by it, and never waiting for one that has not
                # come.
                segmenter = self._models.segmenter
                self._taken = self._mailbox.take(1 if segmenter is self._alone() else segmenter.best_batch)
                if self._taken:
                    with self._models.serving() as segmenter:
                        self._serve(segmenter)
        except GivenUpError:
            return

    def _serve(self, segmenter: Segmenter) -> None:
        jobs: list[tuple[FrameSource, FrameJob]] = []
        for camera, frame in list(self._taken):
            job = None
            with self._working([camera]):
                job = camera.prepare(frame, segmenter, self.hand)
            if job is None:
                self._done_with(camera)
            else:
                jobs.append((camera, job))
        for camera, job in self._done_together(jobs, segmenter):
            with self._working([camera]):
                job.run(segmenter)
                self.engine_failures = 0
            self._done_with(camera)

    def _done_together(
        self, jobs: list[tuple[FrameSource, FrameJob]], segmenter: Segmenter
    ) -> list[tuple[FrameSource, FrameJob]]:
        """Do in one run of the engine what can be; returns what is left to be done alone."""
        batch = [(camera, job, job.request) for camera, job in jobs if job.request is not None]
        requests = [request for _, _, request in batch if request is not None]
        if len(batch) < 2:
            return jobs
        results = None
        try:
            with self._in_hand([camera for camera, _, _ in batch]):
                self.hand.at(INFER)
                images = [job.image for _, job, _ in batch]
                pixels, bgr = [image.pixels for image in images], [image.bgr for image in images]
                results = segmenter.segment_together(pixels, requests, bgr)
        except GivenUpError:
            raise
        except Exception as error:  # one by one each camera gets its own error, or none
            self._alone = weakref.ref(segmenter)
            said = " ".join(str(error).split())
            logger.warning("%d images at once failed, from now on they are done one by one: %s", len(batch), said)
        if results is None:
            return jobs
        for (camera, job, _), result in zip(batch, results, strict=True):
            with self._working([camera]):
                job.finish(result)
                self.engine_failures = 0
            self._done_with(camera)
        return [(camera, job) for camera, job in jobs if job.request is None]

    def _done_with(self, camera: FrameSource) -> None:
        self._taken = [entry for entry in self._taken if entry[0] is not camera]

    @contextmanager
    def _in_hand(self, cameras: list[FrameSource]) -> Iterator[None]:
        """While frames of these cameras are worked on. Raises GivenUpError."""
        self._at = cameras
        with self.hand.taken(" and ".join(camera.label for camera in cameras)):
            yield
        self._at = []

    @contextmanager
    def _working(self, cameras: list[FrameSource]) -> Iterator[None]:
        """What goes wrong with a frame is its camera's, and ends neither the stream nor another camera's frame."""
        try:
            with self._in_hand(cameras):
                yield
        except GivenUpError:
            raise
        except Exception as error:
            if self._mailbox.closed or self.hand.given_up:
                return  # publishers go away under a frame in hand
            self.engine_failures += self.hand.stage == INFER
            expected = isinstance(error, ImageError | EngineError)
            said = str(error) if expected else f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
            for camera in cameras:
                camera.failed(_shortened(said))


def _shortened(error: str) -> str:
    """A sender's own text may be in it."""
    return error if len(error) <= LONGEST_ERROR else f"{error[:LONGEST_ERROR]}..."
