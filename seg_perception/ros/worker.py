"""The worker thread: the newest images of all cameras in, segmented by the one model, masks out.

The executor's thread only leaves serialized messages in the mailbox. Here they are decoded, segmented and published,
so that no inference ever delays a service call, a parameter or a transition.
"""

from __future__ import annotations

import threading
from typing import Protocol

from seg_perception.engines.base import EngineError
from seg_perception.images import ImageError
from seg_perception.ros.frame_pipeline import Frame
from seg_perception.ros.mailbox import Mailbox
from seg_perception.ros.model_slot import ModelSlot
from seg_perception.segmenter import Segmenter

LONGEST_ERROR = 400  # letters that reach log and diagnostics


class FrameSource(Protocol):
    """A camera, as the worker knows it."""

    def process(self, frame: Frame, segmenter: Segmenter) -> None:
        """Segment one of its frames and publish the masks."""

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
            for camera, frame in self._mailbox.take():
                self._process(camera, frame)

    def _process(self, camera: FrameSource, frame: Frame) -> None:
        try:
            with self._models.serving() as segmenter:
                camera.process(frame, segmenter)
        except (ImageError, EngineError) as error:
            camera.failed(_shortened(str(error)))
        except Exception as error:
            # One broken frame must not end the stream, whatever it broke; unless publishers go away under a frame in hand.
            if not self._mailbox.closed:
                camera.failed(_shortened(f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"))


def _shortened(error: str) -> str:
    """A sender's own text may be in it."""
    return error if len(error) <= LONGEST_ERROR else f"{error[:LONGEST_ERROR]}..."
