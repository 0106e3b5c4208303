"""The pixels in which a camera sees the robot itself: they get no label."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from seg_perception.image_size import MAX_PIXELS, ImageHeaderError, read_image_header

SIZES_KEPT = 8
MAX_FILE_BYTES = 256 << 20


class BodyMaskError(ValueError):
    """An image file that is no body mask. The message is one line: what came, what was expected."""


class BodyMask:
    """Where the robot's own body is in a camera's images.

    Args:
        body: bool [H, W], true on the body.
    """

    def __init__(self, body: np.ndarray) -> None:
        self._body = body.astype(np.uint8) * 255
        self._at = lru_cache(maxsize=SIZES_KEPT)(self._resized)

    def at(self, size: tuple[int, int]) -> np.ndarray:
        """The mask at a size (H, W): uint8 [H, W], 255 on the body, else 0; nearest pixel, kept by size, only to be read."""
        return self._at(size)

    def in_cells(self, input_size: tuple[int, int], grid: tuple[int, int], cell: tuple[int, int]) -> np.ndarray:
        """The cells of a superpixel grid that are the body's by half or more: bool [R, C].

        Args:
            input_size: (H, W), pixels of the network's input.
            grid: (R, C), cells over it from its upper left corner.
            cell: (h, w), pixels of the input in a cell; what hangs over counts as the input's last pixels.
        """
        height, width = grid[0] * cell[0], grid[1] * cell[1]
        mask = self.at(input_size)[:height, :width]
        over = ((0, height - mask.shape[0]), (0, width - mask.shape[1]))
        whole = np.pad(mask, over, "edge").reshape(grid[0], cell[0], grid[1], cell[1])
        return whole.mean((1, 3)) >= 127.5

    def _resized(self, size: tuple[int, int]) -> np.ndarray:
        # INTER_NEAREST_EXACT, since plain INTER_NEAREST in OpenCV is half a source pixel off.
        mask = cv2.resize(self._body, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        mask.setflags(write=False)
        return mask


def read_body_mask(path: str | Path) -> BodyMask:
    """Read a mask from an image file: what is not black is the robot's body; of a file with alpha, what is not black and
    not transparent.

    Raises:
        BodyMaskError: no such file, no image, one of too many pixels, or one without a body or without anything else.
    """
    path = Path(path)
    where = f"body mask {path}"
    expected = "an image file, not black where the robot's body is"
    try:
        if path.exists() and not path.is_file():
            raise BodyMaskError(f"{where} is not a file, expected {expected}")
        with path.open("rb") as file:
            content = np.frombuffer(file.read(MAX_FILE_BYTES + 1), np.uint8)
    except OSError as error:
        raise BodyMaskError(f"{where} cannot be read: {error.strerror}; expected {expected}") from error
    try:
        header = read_image_header(content.data)
    except ImageHeaderError as error:
        raise BodyMaskError(f"{where} cannot be decoded: {error}") from error
    if content.size > MAX_FILE_BYTES or header.pixels > MAX_PIXELS:
        raise BodyMaskError(
            f"{where} is {header.width}x{header.height} pixels in {content.size} bytes; expected at most {MAX_PIXELS} pixels "
            f"and {MAX_FILE_BYTES} bytes"
        )
    image = _decoded(content)
    if image is None or image.size == 0:
        raise BodyMaskError(f"{where} cannot be decoded: it is cut short or damaged; expected {expected}")
    body = _body(image)
    if not body.any() or body.all():
        everything = "it is black all over" if not body.any() else "no pixel of it is black"
        raise BodyMaskError(f"{where} has nothing to tell: {everything}; expected {expected}")
    return BodyMask(body)


def _decoded(content: np.ndarray) -> np.ndarray | None:
    try:
        return cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _body(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2:
        return image != 0
    if image.shape[2] in (2, 4):
        return (image[..., :-1] != 0).any(-1) & (image[..., -1] != 0)
    return (image != 0).any(-1)
