"""Pictures of a video file, decoded by OpenCV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2

from seg_perception.bag.frames import prefetch
from seg_perception.view.picture import Clock, Picture, SourceError

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm")
_AHEAD = 2


class VideoFileSource:
    """Every frame of a video file; stamps are the places in it.

    Raises:
        SourceError: OpenCV cannot decode it.
    """

    clock: Clock = "start"
    dropped = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's own lines say nothing to a user
        self._capture = cv2.VideoCapture(str(path))
        width, height = (int(self._capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if not self._capture.isOpened() or not width or not height:
            raise SourceError(
                f"video {path} ({path.stat().st_size} bytes) cannot be decoded; expected a format that OpenCV's FFmpeg "
                "reads, such as H.264 or VP9 in .mp4, .mkv or .webm: convert it with ffmpeg"
            )
        self.description = f"video {path}, {width}x{height}"

    def __iter__(self) -> Iterator[Picture]:
        """The frames. Raises SourceError where there is none."""
        yield from prefetch(self._decoded(), _AHEAD)

    def _decoded(self) -> Iterator[Picture]:
        frames = 0
        while True:
            there, bgr = self._capture.read()
            if not there:
                break
            frames += 1
            stamp_ns = round(1e6 * self._capture.get(cv2.CAP_PROP_POS_MSEC))  # of the frame just read
            yield Picture(stamp_ns, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
        if not frames:
            raise SourceError(f"video {self._path} has no frame that can be decoded")

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()
