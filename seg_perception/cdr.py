"""Camera messages read from, and masks written as, the bytes that travel over DDS. No ROS in here.

sensor_msgs/Image and CompressedImage in CDR, the classic encoding that every ROS 2 middleware sends (OMG DDSI-RTPS 2.5,
section 10; CORBA 3.3 part 2, section 9.3): four bytes of encapsulation, then the fields in order, each number aligned to
its own size counted from the end of the encapsulation.

    encapsulation        uint8[4]   00 00 big-endian or 00 01 little-endian, then two bytes of options
    header.stamp         int32, uint32
    header.frame_id      string: uint32 length with the NUL, bytes, NUL
    height, width        uint32, uint32          | CompressedImage has here only
    encoding             string                  |     format    string
    is_bigendian, step   uint8, uint32           |
    data                 uint32 length, bytes

Pixels are never copied on the way in: a 1920x1080 image takes some microseconds here, 0.75 ms as a message object.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass

import numpy as np

_ENCAPSULATION = 4  # bytes
_BIG_ENDIAN, _LITTLE_ENDIAN = b"\x00\x00", b"\x00\x01"


class CdrError(ValueError):
    """The bytes are no such message. One line: what came, what was expected."""


class UnknownEncapsulationError(CdrError):
    """Serialized in another way than classic CDR; the middleware itself may know how."""


@dataclass(frozen=True)
class Header:
    """std_msgs/Header.

    Attributes:
        sec: seconds of the stamp, may be negative.
        nanosec: nanoseconds of the stamp.
        frame_id: as it came, without the NUL; UTF-8 by convention, which nothing here relies on.
    """

    sec: int
    nanosec: int
    frame_id: bytes

    @property
    def stamp_ns(self) -> int:
        """The stamp in nanoseconds."""
        return 1_000_000_000 * self.sec + self.nanosec


@dataclass(frozen=True)
class RawImage:
    """sensor_msgs/Image; `data` is a view of the bytes that were read. Fields as in the message."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


@dataclass(frozen=True)
class CompressedImage:
    """sensor_msgs/CompressedImage; `data` is a view of the bytes that were read. Fields as in the message."""

    header: Header
    format: str
    data: memoryview


def read_image(serialized: bytes) -> RawImage:
    """A serialized sensor_msgs/Image. What follows it is ignored, since middlewares pad.

    Raises:
        UnknownEncapsulationError: not classic CDR.
        CdrError: cut short, or a length or string that cannot be.
    """
    reader = CdrReader(serialized, "sensor_msgs/Image")
    header = reader.header()
    height, width = reader.uint32("height"), reader.uint32("width")
    encoding = reader.text("encoding")
    is_bigendian, step = reader.uint8("is_bigendian"), reader.uint32("step")
    return RawImage(header, height, width, encoding, is_bigendian, step, reader.sequence("data"))


def read_compressed_image(serialized: bytes) -> CompressedImage:
    """A serialized sensor_msgs/CompressedImage; see `read_image`."""
    reader = CdrReader(serialized, "sensor_msgs/CompressedImage")
    return CompressedImage(reader.header(), reader.text("format"), reader.sequence("data"))


def read_header(serialized: bytes, kind: str) -> Header:
    """The header that a serialized message begins with; see `read_image`.

    Args:
        serialized: the message.
        kind: of message, for errors.
    """
    return CdrReader(serialized, kind).header()


def write_image(header: Header, encoding: str, pixels: np.ndarray) -> bytes:
    """A sensor_msgs/Image of the array's size, rows without padding, in this machine's byte order.

    Args:
        header: written as it is.
        encoding: of sensor_msgs/image_encodings that fits the array.
        pixels: uint8 or uint16, [H, W] or [H, W, C].

    Returns:
        What a publisher takes in place of a message; the pixels are copied once.
    """
    pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    little = sys.byteorder == "little"
    order = "<" if little else ">"
    name = encoding.encode("ascii")
    parts = [_LITTLE_ENDIAN if little else _BIG_ENDIAN, b"\x00\x00"]
    parts.append(struct.pack(f"{order}iII", header.sec, header.nanosec, len(header.frame_id) + 1))
    position = 12 + len(header.frame_id) + 1
    parts += [header.frame_id, b"\x00", bytes(-position % 4)]
    position += -position % 4
    parts.append(struct.pack(f"{order}III", height, width, len(name) + 1))
    position += 12 + len(name) + 1
    parts += [name, b"\x00", bytes([not little])]
    position += 1
    parts.append(bytes(-position % 4))
    parts.append(struct.pack(f"{order}II", pixels.nbytes // height, pixels.nbytes))
    return b"".join([*parts, pixels.data.cast("B")])


class CdrReader:
    """Takes one field after the other; looks before every step whether it is there."""

    def __init__(self, serialized: bytes, kind: str) -> None:
        self._kind = kind
        self._data = memoryview(serialized).cast("B")
        self._position = _ENCAPSULATION
        start = bytes(self._data[:2])
        if len(self._data) < _ENCAPSULATION:
            raise CdrError(f"serialized {kind} has {len(self._data)} bytes, expected at least {_ENCAPSULATION}")
        if start not in (_BIG_ENDIAN, _LITTLE_ENDIAN):
            raise UnknownEncapsulationError(
                f"serialized {kind} starts with {start.hex(' ')}, expected 00 00 or 00 01 (CDR)"
            )
        order = "<" if start == _LITTLE_ENDIAN else ">"
        self._uint32 = struct.Struct(f"{order}I")
        self._int32 = struct.Struct(f"{order}i")
        self._order = order

    def header(self) -> Header:
        sec = self._number(self._int32, "header.stamp")
        return Header(sec, self.uint32("header.stamp"), self._string("header.frame_id"))

    def uint8(self, field: str) -> int:
        return self._take(1, field)[0]

    def uint32(self, field: str) -> int:
        return self._number(self._uint32, field)

    def float64s(self, count: int, field: str) -> tuple[float, ...]:
        if count:
            self._position += -(self._position - _ENCAPSULATION) % 8
        return struct.unpack(f"{self._order}{count}d", self._take(8 * count, field))

    def text(self, field: str) -> str:
        return self._string(field).decode("utf-8", "replace")

    def sequence(self, field: str) -> memoryview:
        return self._take(self.uint32(field), field)

    def _string(self, field: str) -> bytes:
        length = self.uint32(field)
        if length == 0:  # against the letter, but some middlewares write an empty string without its NUL
            return b""
        content = bytes(self._take(length, field))
        if content.find(0) != length - 1:
            raise CdrError(f"serialized {self._kind}: {field} is no string that ends with its only NUL")
        return content[:-1]

    def _number(self, layout: struct.Struct, field: str) -> int:
        self._position += -(self._position - _ENCAPSULATION) % layout.size
        number: int = layout.unpack(self._take(layout.size, field))[0]
        return number

    def _take(self, size: int, field: str) -> memoryview:
        end = self._position + size
        if end > len(self._data):
            raise CdrError(
                f"serialized {self._kind} is cut short: {field} needs {size} bytes at {self._position}, "
                f"the message has {len(self._data)}"
            )
        part = self._data[self._position : end]
        self._position = end
        return part
