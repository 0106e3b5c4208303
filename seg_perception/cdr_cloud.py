"""Labelled points written as the bytes of a sensor_msgs/PointCloud2 that travel over DDS. No ROS in here.

CDR as in `cdr.py`; behind the header come

    height, width        uint32, uint32
    fields               uint32 count, of each: string name, uint32 offset, uint8 datatype, uint32 count
    is_bigendian         uint8
    point_step, row_step uint32, uint32
    data                 uint32 length, bytes
    is_dense             uint8

The points are copied once, where a message object is filled and then serialized.
"""

from __future__ import annotations

import struct

import numpy as np

from seg_perception.cdr import Header
from seg_perception.cloud import FIELDS, POINT

_LITTLE_ENDIAN = b"\x00\x01\x00\x00"


def write_cloud(header: Header, points: np.ndarray, is_dense: bool) -> bytes:
    """A sensor_msgs/PointCloud2, little-endian, as `cloud.POINT` is.

    Args:
        header: written as it is.
        points: POINT [N], or organised [H, W].
        is_dense: whether every point has finite coordinates.

    Returns:
        What a publisher takes in place of a message.
    """
    rows, columns = points.shape if points.ndim == 2 else (1, len(points))
    head = bytearray()
    _number(head, "i", header.sec)
    _number(head, "I", header.nanosec)
    _string(head, header.frame_id)
    for number in (rows, columns, len(FIELDS)):
        _number(head, "I", number)
    for name, offset, datatype in FIELDS:
        _string(head, name.encode())
        _number(head, "I", offset)
        _number(head, "B", datatype)
        _number(head, "I", 1)
    _number(head, "B", 0)  # is_bigendian
    for number in (POINT.itemsize, POINT.itemsize * columns, points.nbytes):
        _number(head, "I", number)
    content = np.ascontiguousarray(points).reshape(-1).view(np.uint8)
    return b"".join([_LITTLE_ENDIAN, head, content.data, b"\x01" if is_dense else b"\x00"])


def _number(head: bytearray, kind: str, number: int) -> None:
    size = struct.calcsize(f"<{kind}")
    head += bytes(-len(head) % size)
    head += struct.pack(f"<{kind}", number)


def _string(head: bytearray, content: bytes) -> None:
    _number(head, "I", len(content) + 1)
    head += content + b"\x00"
