"""Serialized camera messages, put together field by field after the tables of the CDR specification."""

from __future__ import annotations

import struct

import numpy as np


class Bytes:
    """Grows by aligned fields in the byte order "<" or ">"."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.content = b""

    def number(self, layout: str, value: int) -> None:
        """A number of `struct`'s layout, aligned to its size."""
        size = struct.calcsize(f"{self.order}{layout}")
        self.content += bytes(-len(self.content) % size) + struct.pack(f"{self.order}{layout}", value)

    def string(self, text: bytes) -> None:
        """A string with its length and NUL."""
        self.number("I", len(text) + 1)
        self.content += text + b"\0"

    def sequence(self, data: bytes) -> None:
        """A sequence of bytes with its length."""
        self.number("I", len(data))
        self.content += data

    def header(self, frame_id: bytes) -> None:
        """A header whose stamp needs all bits."""
        self.number("i", -7)
        self.number("I", 4_000_000_000)
        self.string(frame_id)

    def message(self) -> bytes:
        """With the encapsulation."""
        return (b"\0\1\0\0" if self.order == "<" else b"\0\0\0\0") + self.content


def image_bytes(order: str, frame_id: bytes = b"ab", encoding: str = "rgb8", is_bigendian: int = 0) -> bytes:
    """A sensor_msgs/Image of 3x2 pixels that count up."""
    result = Bytes(order)
    result.header(frame_id)
    result.number("I", 2)
    result.number("I", 3)
    result.string(encoding.encode())
    result.number("B", is_bigendian)
    result.number("I", 9)
    result.sequence(bytes(range(18)))
    return result.message()


def compressed_image_bytes(order: str, frame_id: bytes, format: str, data: bytes) -> bytes:
    """A sensor_msgs/CompressedImage."""
    result = Bytes(order)
    result.header(frame_id)
    result.string(format.encode())
    result.sequence(data)
    return result.message()


def cloud_bytes(
    order: str,
    xyz: np.ndarray,
    frame_id: bytes = b"depth",
    point_step: int = 16,
    padding: int = 0,
    is_bigendian: int = 0,
    names: tuple[bytes, ...] = (b"x", b"y", b"z"),
    datatype: int = 7,
    told_step: int | None = None,
    told_fields: int | None = None,
    cut: int = 0,
) -> bytes:
    """A sensor_msgs/PointCloud2 of points float32 [H, W, 3], with `padding` bytes behind each row; `cut` bytes are missing."""
    rows, columns = xyz.shape[:2]
    content = np.zeros((rows, columns * point_step + padding), np.uint8)
    points = xyz.astype(f"{'>' if is_bigendian else '<'}f4").view(np.uint8).reshape(rows, columns, 12)
    for column in range(columns):
        content[:, column * point_step : column * point_step + 12] = points[:, column]
    result = Bytes(order)
    result.header(frame_id)
    result.number("I", rows)
    result.number("I", columns)
    result.number("I", len(names) if told_fields is None else told_fields)
    for number, name in enumerate(names):
        result.string(name)
        result.number("I", 4 * number)
        result.number("B", datatype)
        result.number("I", 1)
    result.number("B", is_bigendian)
    result.number("I", point_step if told_step is None else told_step)
    result.number("I", content.shape[1] if told_step is None else columns * told_step % 2**32)
    result.sequence(content.tobytes()[: content.size - cut])
    result.number("B", 0)
    return result.message()
