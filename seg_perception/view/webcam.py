"""Pictures of a camera on this machine, by OpenCV: the newest one each time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import cv2

from seg_perception.ros.mailbox import Mailbox
from seg_perception.view.picture import Clock, Picture, SourceError


class WebcamSource:
    """A camera of this machine.

    Args:
        index: of OpenCV; /dev/video0 is 0.

    Raises:
        SourceError: there is no such camera, or it gives no picture.
    """

    clock: Clock = "epoch"

    def __init__(self, index: int) -> None:
        self.description = f"webcam {index}"
        self._mailbox: Mailbox[Picture] = Mailbox()
        with _without_opencv_errors():
            self._capture = cv2.VideoCapture(index)
        there = self._capture.isOpened() and self._capture.read()[0]
        if not there:
            self._capture.release()
            have = ", ".join(sorted(name for name in os.listdir("/dev") if name.startswith("video"))) or "no camera"
            raise SourceError(
                f"webcam {index} cannot be opened: this machine has {have} in /dev; expected webcam:N for an existing "
                "/dev/videoN that no other program uses"
            )
        self._thread = threading.Thread(target=self._read, name="webcam", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Pictures that a newer one overtook."""
        return self._mailbox.replaced

    def __iter__(self) -> Iterator[Picture]:
        """Until the camera ends or `close`."""
        while (picture := self._mailbox.take()) is not None:
            yield picture

    def _read(self) -> None:
        while not self._mailbox.closed:
            there, bgr = self._capture.read()
            if not there:
                self._mailbox.close()
                return
            self._mailbox.put(Picture(time.time_ns(), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)))

    def close(self) -> None:
        """Let go of the camera."""
        self._mailbox.close()
        self._thread.join()
        self._capture.release()


class _without_opencv_errors:  # noqa: N801  # a context manager
    """OpenCV prints a line of its own for every way in which a camera could not be opened; ours says it."""

    def __enter__(self) -> None:
        self._level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

    def __exit__(self, *_: object) -> None:
        cv2.utils.logging.setLogLevel(self._level)
