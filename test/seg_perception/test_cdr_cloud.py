"""Organised clouds read from bytes, put together field by field."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.cdr import CdrError, Header
from seg_perception.cdr_cloud import read_cloud
from seg_perception.cloud import CloudError
from test.seg_perception.cdr_bytes import cloud_bytes

XYZ = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
XYZ[1, 2] = np.nan


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("frame_id", [b"", b"abc", b"depth_optical"])
@pytest.mark.parametrize(("point_step", "padding"), [(12, 0), (16, 0), (32, 8)])
@pytest.mark.parametrize("is_bigendian", [0, 1])
def test_points_are_read_wherever_they_lie(order, frame_id, point_step, padding, is_bigendian):
    cloud = read_cloud(cloud_bytes(order, XYZ, frame_id, point_step, padding, is_bigendian))
    assert cloud.header == Header(-7, 4_000_000_000, frame_id)
    assert cloud.xyz.dtype == np.float32
    np.testing.assert_array_equal(cloud.xyz, XYZ)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"xyz": XYZ.reshape(1, 24, 3)}, "cloud is 24x1 points, expected an organised one"),
        ({"names": (b"x", b"y", b"range")}, "cloud has x, y of x, y, z as float32"),
        ({"datatype": 8}, "cloud has none of x, y, z as float32"),
        ({"point_step": 12, "told_step": 8}, "point_step 8, row_step 48"),
        ({"cut": 10}, "expected at least 12 bytes a point and 380 bytes in all"),
        ({"told_step": 2**32 - 1}, "point_step 4294967295"),
    ],
)
def test_what_is_no_organised_cloud_is_refused_in_one_line(changes, said):
    with pytest.raises(CloudError) as raised:
        read_cloud(cloud_bytes("<", **{"xyz": XYZ, **changes}))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_message_that_is_cut_is_refused():
    whole = cloud_bytes("<", XYZ)
    for length in (0, 3, 20, 60, len(whole) // 2):
        with pytest.raises(CdrError):
            read_cloud(whole[:length])
    with pytest.raises(CdrError, match="4000000 fields"):
        read_cloud(cloud_bytes("<", XYZ, told_fields=4_000_000))
