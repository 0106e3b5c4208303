"""sensor_msgs/PointCloud2 as the bytes that travel over DDS: labelled points written, organised clouds read. No ROS in here.

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
from dataclasses import dataclass

import numpy as np

from seg_perception.cdr import CdrError, CdrReader, Header
from seg_perception.cloud import FIELDS, POINT, CloudError

_LITTLE_ENDIAN = b"\x00\x01\x00\x00"
_FLOAT32 = 7  # sensor_msgs/PointField
_MOST_FIELDS = 64  # drivers send up to a dozen


@dataclass(frozen=True)
class OrganisedCloud:
    """A cloud whose points lie on a camera's pixels.

    Attributes:
        header: of the message.
        xyz: float32 [H, W, 3], metres; NaN where there is no point.
    """

    header: Header
    xyz: np.ndarray


def read_cloud(serialized: bytes) -> OrganisedCloud:
    """A serialized sensor_msgs/PointCloud2 with a row of points for each row of pixels.

    Raises:
        UnknownEncapsulationError: not classic CDR.
        CdrError: cut short, or a length or string that cannot be.
        CloudError: not organised, without x y z as float32, or of a size that does not fit its data.
    """
    reader = CdrReader(serialized, "sensor_msgs/PointCloud2")
    header = reader.header()
    rows, columns = reader.uint32("height"), reader.uint32("width")
    offsets = _offsets(reader)
    big = reader.uint8("is_bigendian")
    point_step, row_step = reader.uint32("point_step"), reader.uint32("row_step")
    data = reader.sequence("data")
    if rows < 2 or columns < 1:
        raise CloudError(
            f"cloud is {columns}x{rows} points, expected an organised one: a row of points for each row of pixels"
        )
    if set(offsets) != {"x", "y", "z"}:
        raise CloudError(f"cloud has {', '.join(sorted(offsets)) or 'none'} of x, y, z as float32; expected all three")
    needed = (rows - 1) * row_step + (columns - 1) * point_step + max(offsets.values()) + 4
    if max(offsets.values()) + 4 > point_step or row_step < columns * point_step or len(data) < needed:
        raise CloudError(
            f"cloud of {columns}x{rows} points has point_step {point_step}, row_step {row_step} and {len(data)} bytes; "
            f"expected at least {max(offsets.values()) + 4} bytes a point and {needed} bytes in all"
        )
    xyz = np.empty((rows, columns, 3), np.float32)
    for axis, name in enumerate("xyz"):
        xyz[..., axis] = np.ndarray(
            (rows, columns), f"{'>' if big else '<'}f4", data, offsets[name], (row_step, point_step)
        )
    return OrganisedCloud(header, xyz)


def _offsets(reader: CdrReader) -> dict[str, int]:
    """Where x, y and z are in a point, as far as they are float32."""
    count = reader.uint32("fields")
    if count > _MOST_FIELDS:
        raise CdrError(f"serialized sensor_msgs/PointCloud2 has {count} fields, expected at most {_MOST_FIELDS}")
    offsets = {}
    for _ in range(count):
        name, offset = reader.text("field name"), reader.uint32("field offset")
        datatype, times = reader.uint8("field datatype"), reader.uint32("field count")
        if name in ("x", "y", "z") and datatype == _FLOAT32 and times <= 1:  # 0 by drivers that leave it out
            offsets[name] = offset
    return offsets


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
