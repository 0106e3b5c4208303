"""Pictures of a folder, in the order of their names."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from seg_perception.bag.frames import prefetch
from seg_perception.images import ImageError, decode_compressed
from seg_perception.view.picture import Clock, Picture, SourceError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_AHEAD = 2  # pictures that are decoded while one is segmented


class FolderSource:
    """The images of a folder, or a single one. What cannot be decoded is left out with a line in the log.

    Args:
        path: a folder, whose subfolders are not looked into, or an image file.

    Raises:
        SourceError: there is no image in it.
    """

    clock: Clock = "start"

    def __init__(self, path: Path) -> None:
        self._files = [path] if path.is_file() else sorted(file for file in path.iterdir() if is_image(file))
        if not self._files:
            raise SourceError(
                f"folder {path} holds no recording and no image; expected a rosbag2 folder or files ending in "
                f"{', '.join(IMAGE_SUFFIXES)}"
            )
        self.description = f"{len(self._files)} images of {path}"
        self.dropped = 0

    def __iter__(self) -> Iterator[Picture]:
        """The images. Raises SourceError where none of them can be decoded."""
        yield from prefetch(self._decoded(), _AHEAD)

    def _decoded(self) -> Iterator[Picture]:
        first_problem = ""
        for file in self._files:
            try:
                yield Picture(None, decode_compressed(file.read_bytes(), file.suffix[1:]))
            except (ImageError, OSError) as error:
                self.dropped += 1
                first_problem = first_problem or f"{file}: {error}"
                logger.warning("left out: %s: %s", file, error)
        if self.dropped == len(self._files):
            raise SourceError(f"none of the {self.description} can be used; the first: {first_problem}")

    def close(self) -> None:
        """Nothing is kept open."""


def is_image(path: Path) -> bool:
    """Whether a file has the name of an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
