"""The written PointCloud2 against ROS's own reading."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy (ROS 2) is not installed")

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import PointCloud2

from seg_perception.cdr import Header
from seg_perception.cdr_cloud import write_cloud
from seg_perception.cloud import FIELDS, POINT


@pytest.mark.parametrize("frame_id", [b"", b"depth", b"camera_depth_optical_frame"])
@pytest.mark.parametrize("shape", [(0,), (7,), (3, 4)])
def test_ros_reads_every_field_as_it_was_written(frame_id: bytes, shape: tuple[int, ...]) -> None:
    points = np.zeros(shape, POINT)
    points.view(np.uint8)[...] = np.random.default_rng(0).integers(0, 256, points.view(np.uint8).shape)
    serialized = write_cloud(Header(-3, 999_999_999, frame_id), points, is_dense=len(shape) == 1)
    message = deserialize_message(serialized, PointCloud2)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (-3, 999_999_999)
    assert message.header.frame_id == frame_id.decode()
    rows, columns = shape if len(shape) == 2 else (1, *shape)
    assert (message.height, message.width) == (rows, columns)
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [(*field, 1) for field in FIELDS]
    assert (message.point_step, message.row_step) == (POINT.itemsize, POINT.itemsize * columns)
    assert (message.is_bigendian, message.is_dense) == (False, len(shape) == 1)
    assert bytes(message.data) == points.tobytes()


def test_points_that_are_a_view_are_written_in_their_order() -> None:
    points = np.zeros((4, 6), POINT)
    points["z"] = np.arange(24).reshape(4, 6)
    message = deserialize_message(write_cloud(Header(1, 2, b"f"), points[:, ::2], True), PointCloud2)
    np.testing.assert_array_equal(np.frombuffer(message.data, POINT)["z"], points["z"][:, ::2].ravel())
