"""Which kind of source a text on the command line names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seg_perception.bag.parts import METADATA, STORAGE_SUFFIXES, storage_files
from seg_perception.view.folder import IMAGE_SUFFIXES
from seg_perception.view.picture import SourceError
from seg_perception.view.video_file import VIDEO_SUFFIXES

Kind = Literal["topic", "bag", "video", "webcam", "folder"]
ACCEPTED = (
    "a folder of images, a video file, a rosbag2 folder, an .mcap or .db3 file, webcam, webcam:N or /dev/videoN, a ROS topic "
    "of images or the name of a segmentation node, such as /segmentation"
)
_TOPIC = re.compile(r"/[A-Za-z_]\w*(/[A-Za-z_]\w*)*")
_WEBCAM = re.compile(r"webcam(?::(\d+))?|/dev/v(?:ideo\d+|4l/.+)")


@dataclass(frozen=True)
class Chosen:
    """A source by its kind.

    Attributes:
        kind: of source.
        name: of a topic or node; empty for other kinds.
        path: of a file or folder; None for other kinds.
        device: of a webcam, its number or its path.
    """

    kind: Kind
    name: str = ""
    path: Path | None = None
    device: int | str = 0


def choose(text: str) -> Chosen:
    """The source that a text names. What exists as a file is a file, also where a topic could be called so.

    Raises:
        SourceError: it names none.
    """
    webcam = _WEBCAM.fullmatch(text)
    if webcam:
        return Chosen("webcam", device=text if text.startswith("/") else int(webcam[1] or 0))
    path = Path(text).expanduser()
    if not path.exists():
        if _TOPIC.fullmatch(text):
            return Chosen("topic", name=text)
        raise SourceError(f"source {text!r} does not exist; expected {ACCEPTED}")
    if path.is_dir():
        is_bag = (path / METADATA).exists() or bool(storage_files(path))
        return Chosen("bag" if is_bag else "folder", path=path)
    suffix = path.suffix.lower()
    if suffix in STORAGE_SUFFIXES:
        return Chosen("bag", path=path)
    if suffix in VIDEO_SUFFIXES:
        return Chosen("video", path=path)
    if suffix in IMAGE_SUFFIXES:
        return Chosen("folder", path=path)
    raise SourceError(
        f"source {text!r} is a {suffix or 'nameless'} file; expected {ACCEPTED}; images end in "
        f"{', '.join(IMAGE_SUFFIXES)}, videos in {', '.join(VIDEO_SUFFIXES)}"
    )
