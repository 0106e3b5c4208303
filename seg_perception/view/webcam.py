"""Pictures of a camera on this machine, by OpenCV: the newest one each time."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator

import cv2

from seg_perception.view.newest import Newest
from seg_perception.view.picture import Clock, Picture, SourceError

logger = logging.getLogger(__name__)

_TAKE_S = 0.2  # how soon the end of a camera is noticed


class WebcamSource:
    """A camera of this machine.

    Args:
        device: its number, where 0 is /dev/video0, or its path, which stays where numbers change (/dev/v4l/by-id/...).

    Raises:
        SourceError: there is no such camera, or it gives no picture.
    """

    clock: Clock = "epoch"

    def __init__(self, device: int | str) -> None:
        self.description = f"webcam {device}"
        self._newest: Newest[Picture] = Newest()
        with _without_opencv_errors():
            self._capture = cv2.VideoCapture(device)
        there = self._capture.isOpened() and self._capture.read()[0]
        if not there:
            self._capture.release()
            have = ", ".join(sorted(name for name in os.listdir("/dev") if name.startswith("video"))) or "no camera"
            raise SourceError(
                f"webcam {device} cannot be opened: this machine has {have} in /dev; expected webcam:N or the path of "
                "a camera that no other program uses"
            )
        self._thread = threading.Thread(target=self._read, name="webcam", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Pictures that a newer one overtook."""
        return self._newest.dropped

    def __iter__(self) -> Iterator[Picture]:
        """Until the camera ends or `close`."""
        while not self._newest.closed:
            ended = not self._thread.is_alive()  # looked at first: what it left last is still taken
            picture = self._newest.take(_TAKE_S)
            if picture is not None:
                yield picture
            elif ended:
                logger.warning("%s gives no more pictures", self.description)
                return

    def _read(self) -> None:
        while not self._newest.closed:
            there, bgr = self._capture.read()
            if not there:
                return
            self._newest.put(Picture(time.time_ns(), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)))

    def close(self) -> None:
        """Let go of the camera."""
        self._newest.close()
        self._thread.join()
        self._capture.release()


class _without_opencv_errors:  # noqa: N801  # a context manager
    """OpenCV prints a line of its own for every way in which a camera could not be opened; ours says it."""

    def __enter__(self) -> None:
        self._level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

    def __exit__(self, *_: object) -> None:
        cv2.utils.logging.setLogLevel(self._level)
