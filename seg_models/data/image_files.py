"""Reading images and index masks from files that may be cut off, or may hold something else than they should.

OpenCV fills what is missing of a JPEG with grey, spreads 1, 2 or 4 bits a pixel over 0..255, and unfolds palettes into
colours, all without a word. So a file's own structure is looked at first.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

MOST_PIXELS = 2**28  # 16,384 x 16,384
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
# In front of it lie, behind a start of scan, coded pixels, whose 0xff a zero or a restart follows.
JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# PNG's colour types that are no plain grey, in words.
COLOURS = {2: "in colour", 3: "a palette picture", 4: "grey with transparency", 6: "in colour with transparency"}


class ImageFileError(ValueError):
    """A file that is no whole PNG or JPEG, or no index mask; one line that names it."""


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of its image.

    Attributes:
        width, height: in pixels.
        bits: a channel.
        colour_type: PNG's; None for a JPEG.
    """

    width: int
    height: int
    bits: int
    colour_type: int | None


def read_image(path: Path) -> np.ndarray:
    """A PNG or JPEG as RGB uint8 (H, W, 3), turned as its EXIF data says.

    Raises:
        ImageFileError: not there, empty, cut off, damaged, of another format, or of more than MOST_PIXELS.
    """
    content, _ = _read(path)
    return cv2.cvtColor(_decode(path, content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_mask(path: Path) -> np.ndarray:
    """A grey PNG's ids as they are in the file: uint8 (H, W), of 1, 2, 4 or 8 bits a pixel, or uint16 of 16.

    Raises:
        ImageFileError: what `read_image` refuses, a JPEG, and a picture in colour or with a palette.
    """
    content, header = _read(path)
    if header.colour_type is None:
        raise ImageFileError(f"{path} is a JPEG, which changes ids; expected ids in a grey PNG")
    if header.colour_type in COLOURS:
        raise ImageFileError(
            f"{path} is {COLOURS[header.colour_type]}; expected ids in a grey PNG, a channel of 8 bits"
        )
    ids = _decode(path, content, cv2.IMREAD_UNCHANGED)
    if ids.ndim != 2:
        raise ImageFileError(f"{path} is decoded to {ids.shape[2]} channels; expected ids in a grey PNG")
    if header.bits < 8:
        ids //= 255 // (2**header.bits - 1)  # as far as OpenCV has spread them; exact
    return ids


def image_header(content: bytes) -> ImageHeader:
    """Size and type of a PNG or JPEG that is there to its end.

    Raises:
        ValueError: it is neither, or cut off; says which.
    """
    if content.startswith(PNG_SIGNATURE):
        return _png_header(content)
    if content.startswith(JPEG_SIGNATURE):
        return _jpeg_header(content)
    raise ValueError("neither PNG nor JPEG")


def _png_header(content: bytes) -> ImageHeader:
    place, header = len(PNG_SIGNATURE), None
    while place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind == b"IHDR" and length == 13 and header is None:
            width, height, bits, colour_type = struct.unpack_from(">IIBB", content, place + 8)
            header = ImageHeader(width, height, bits, colour_type)
        place += 12 + length
        if kind == b"IEND" and header is not None and place <= len(content):
            return header
    raise ValueError("a PNG that is cut off")


def _jpeg_header(content: bytes) -> ImageHeader:
    place, header = 2, None
    while True:
        found = JPEG_MARKER.search(content, place)
        if found is None:
            raise ValueError("a JPEG that is cut off")
        marker, place = content[found.start() + 1], found.end()
        if marker == 0xD9:  # end of image
            if header is None:
                raise ValueError("a JPEG without an image")
            return header
        if place + 9 > len(content):
            raise ValueError("a JPEG that is cut off")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            bits, height, width = struct.unpack_from(">BHH", content, place + 2)
            header = ImageHeader(width, height, bits, None)
        place += struct.unpack_from(">H", content, place)[0]


def _read(path: Path) -> tuple[bytes, ImageHeader]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageFileError(f"{path} cannot be read: {error.strerror}") from error
    if not content:
        raise ImageFileError(f"{path} is empty")
    try:
        header = image_header(content)
    except ValueError as error:
        raise ImageFileError(f"{path} cannot be decoded as an image, it is {error}") from error
    if not 0 < header.width * header.height <= MOST_PIXELS:
        raise ImageFileError(f"{path} is {header.width} x {header.height} pixels; expected 1 to {MOST_PIXELS:,}")
    return content, header


def _decode(path: Path, content: bytes, flag: int) -> np.ndarray:
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error as error:
        raise ImageFileError(f"{path} cannot be decoded as an image: {error.err}") from error
    if decoded is None:
        raise ImageFileError(f"{path} cannot be decoded as an image, it is damaged")
    return decoded
