"""Width and height of an encoded image, read from its first bytes, so that a decoder is only given what fits in memory.

A few hundred bytes of PNG may unpack to gigabytes; the decoder allocates them before it looks at the pixels.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

MAX_PIXELS = 128 * 2**20  # 134 million: more than the largest cameras have; 400 MB as RGB

KINDS = "JPEG, PNG, TIFF, WebP, BMP, GIF or PNM"
PNG_START = b"\x89PNG\r\n\x1a\n"

_JPEG_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length: TEM and the restarts
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15 without DHT, JPG and DAC
_TIFF_SIZES = {256: "width", 257: "height", 322: "tile width", 323: "tile height"}
_TIFF_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_NETPBM = re.compile(rb"P[1-6]\s(?:\s|#[^\n]*\n)*(\d{1,10})(?:\s|#[^\n]*\n)+(\d{1,10})\s")


class ImageHeaderError(ValueError):
    """The bytes do not start as an image of a known kind. The message is a clause: what is wrong with them."""


@dataclass(frozen=True)
class ImageHeader:
    """What the first bytes of an encoded image say.

    Attributes:
        kind: one of KINDS.
        height, width: pixels; of a tiled TIFF at least a tile's.
        sample_bits: bits of one sample of a PNG; 0 for the other kinds, where nobody asks.
        pixels_start: where a JPEG's pixels begin, behind all tables and thumbnails; 0 for the other kinds.
    """

    kind: str
    height: int
    width: int
    sample_bits: int = 0
    pixels_start: int = 0

    @property
    def pixels(self) -> int:
        return self.height * self.width


def read_image_header(data: memoryview) -> ImageHeader:
    """Size and kind of an encoded image; its pixels are not touched.

    Args:
        data: its bytes, one-dimensional uint8.

    Raises:
        ImageHeaderError: none of KINDS, or cut short within its header.
    """
    start = bytes(data[:16])
    try:
        if start.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if start.startswith(PNG_START):
            width, height, bits = struct.unpack_from(">IIB", data, 16)  # the chunk IHDR always comes first
            return ImageHeader("PNG", height, width, sample_bits=bits)
        if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _tiff(data)
        if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
            return _webp(data)
        if start.startswith(b"BM"):
            return _bmp(data)
        if start[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack_from("<HH", data, 6)
            return ImageHeader("GIF", height, width)
        netpbm = _NETPBM.match(bytes(data[:4096]))
        if netpbm is not None:
            return ImageHeader("PNM", int(netpbm[2]), int(netpbm[1]))
    except struct.error as error:
        raise ImageHeaderError("it is cut short or damaged") from error
    raise ImageHeaderError(f"it starts with {start[:8].hex(' ')}, expected {KINDS}")


def _jpeg(data: memoryview) -> ImageHeader:
    """Walks the segments as decoders do: what is no marker between them is passed over."""
    whole = bytes(data)  # a search over a memoryview would go byte by byte in Python
    position, size = 2, (0, 0)
    while True:
        position = whole.find(b"\xff", position)
        if position < 0:
            raise ImageHeaderError("it is cut short or damaged")
        while whole[position : position + 1] == b"\xff":
            position += 1
        (marker,) = struct.unpack_from("B", data, position)
        position += 1
        if marker == 0 or marker in _JPEG_ALONE:
            continue
        if marker in (_JPEG_SCAN, _JPEG_END):
            if size == (0, 0):
                raise ImageHeaderError("it is damaged: its pixels come before their size")
            return ImageHeader("JPEG", *size, pixels_start=position)
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 3)
            size = (max(size[0], height), max(size[1], width))
        position += max(length, 2)


def _tiff(data: memoryview) -> ImageHeader:
    order = "<" if bytes(data[:2]) == b"II" else ">"
    is_big = 43 in (data[2], data[3])
    (first,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
    (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, min(first, len(data)))
    position = first + (8 if is_big else 2)
    entry_size, value_offset = (20, 12) if is_big else (12, 8)
    sizes: dict[str, int] = {}
    for number in range(min(count, 4096)):
        entry = position + number * entry_size
        tag, form = struct.unpack_from(order + "HH", data, min(entry, len(data)))
        if tag in _TIFF_SIZES and form in _TIFF_FORMATS:
            (value,) = struct.unpack_from(order + _TIFF_FORMATS[form], data, entry + value_offset)
            sizes[_TIFF_SIZES[tag]] = max(value, sizes.get(_TIFF_SIZES[tag], 0))
    if "width" not in sizes or "height" not in sizes:
        raise ImageHeaderError("it is a TIFF that does not say its size")
    height = max(sizes["height"], sizes.get("tile height", 0))
    return ImageHeader("TIFF", height, max(sizes["width"], sizes.get("tile width", 0)))


def _webp(data: memoryview) -> ImageHeader:
    form = bytes(data[12:16])
    if form == b"VP8X":
        width, height = (1 + int.from_bytes(data[start : start + 3], "little") for start in (24, 27))
    elif form == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (number & 0x3FFF for number in struct.unpack_from("<HH", data, 26))
    return ImageHeader("WebP", height, width)


def _bmp(data: memoryview) -> ImageHeader:
    (header_size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", data, 18)
    return ImageHeader("BMP", abs(height), abs(width))  # a negative height: rows from the top
