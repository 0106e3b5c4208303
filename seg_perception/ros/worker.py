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
from seg_perception.segmenter import Segmenter

logger = logging.getLogger(__name__)

LONGEST_ERROR = 400  # letters that reach log and diagnostics


class FrameSource(Protocol):
    """A camera, as the worker knows it."""

    def prepare(self, frame: Frame, segmenter: Segmenter) -> FrameJob | None:
        """Decode one of its frames; None where there is nothing to do with it. Raises ImageError."""

    def failed(self, error: str) -> None:
        """Told, in one line, of a frame that could not be used."""


class Worker:
    """Segments the frames of a mailbox until the mailbox is closed.

    Args:
        mailbox: where cameras leave frames.
        models: its segmenter is taken anew for each frame, and used by this thread only.
    """

    def __init__(self, mailbox: Mailbox[FrameSource, Frame], models: ModelSlot) -> None:
        self._mailbox = mailbox
        self._models = models
        self._alone: Callable[[], Segmenter | None] = lambda: None  # which has failed with several images at once
        self._thread = threading.Thread(target=self._run, name="segmentation worker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the frame in hand; the mailbox must have been closed. False if that takes longer."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._mailbox.closed:
            # Several cameras' frames at once only where the engine gains by it, and never waiting for one that has not come.
            segmenter = self._models.segmenter
            taken = self._mailbox.take(1 if segmenter is self._alone() else segmenter.best_batch)
            if taken:
                with self._models.serving() as segmenter:
                    self._serve(taken, segmenter)

    def _serve(self, taken: list[tuple[FrameSource, Frame]], segmenter: Segmenter) -> None:
        jobs: list[tuple[FrameSource, FrameJob]] = []
        for camera, frame in taken:
            with self._telling(camera):
                job = camera.prepare(frame, segmenter)
                if job is not None:
                    jobs.append((camera, job))
        for camera, job in self._done_together(jobs, segmenter):
            with self._telling(camera):
                job.run(segmenter)

    def _done_together(
        self, jobs: list[tuple[FrameSource, FrameJob]], segmenter: Segmenter
    ) -> list[tuple[FrameSource, FrameJob]]:
        """Do in one run of the engine what can be; returns what is left to be done alone."""
        batch = [(camera, job, job.request) for camera, job in jobs if job.request is not None]
        requests = [request for _, _, request in batch if request is not None]
        if len(batch) < 2:
            return jobs
        try:
            results = segmenter.segment_together([job.rgb for _, job, _ in batch], requests)
        except Exception as error:  # one by one each camera gets its own error, or none
            self._alone = weakref.ref(segmenter)
            said = " ".join(str(error).split())
            logger.warning("%d images at once failed, from now on they are done one by one: %s", len(batch), said)
            return jobs
        if results is None:
            return jobs
        for (camera, job, _), result in zip(batch, results, strict=True):
            with self._telling(camera):
                job.finish(result)
        return [(camera, job) for camera, job in jobs if job.request is None]

    @contextmanager
    def _telling(self, camera: FrameSource) -> Iterator[None]:
        """What goes wrong with a frame is its camera's, and ends neither the stream nor another camera's frame."""
        try:
            yield
        except (ImageError, EngineError) as error:
            camera.failed(_shortened(str(error)))
        except Exception as error:
            if not self._mailbox.closed:  # else publishers go away under a frame in hand
                camera.failed(_shortened(f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"))


def _shortened(error: str) -> str:
    """A sender's own text may be in it."""
    return error if len(error) <= LONGEST_ERROR else f"{error[:LONGEST_ERROR]}..."
