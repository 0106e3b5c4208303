"""The calibration of masks of another size, by points that are projected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="sensor_msgs (ROS 2) is not installed")

from sensor_msgs.msg import CameraInfo, RegionOfInterest

from seg_perception.ros.camera_info import scaled_camera_info

K = [500.0, 0.0, 321.0, 0.0, 510.0, 238.0, 0.0, 0.0, 1.0]
P = [480.0, 0.0, 320.0, -48.0, 0.0, 490.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def info(**changes: Any) -> CameraInfo:
    message = CameraInfo(height=480, width=640, distortion_model="plumb_bob", d=[0.1, -0.2, 0.0, 0.0, 0.0], k=K, p=P)
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.header.stamp.sec, message.header.frame_id = 7, "optical"
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def projected(matrix: Any, points: np.ndarray) -> np.ndarray:
    """Pixels (x, y) [N, 2] of points [N, 3] by K, or [N, 4] by P."""
    image = points @ np.reshape(matrix, (3, -1)).T
    return image[:, :2] / image[:, 2:]


def points(length: int) -> np.ndarray:
    some = np.random.default_rng(0).uniform(-1, 1, (20, length))
    some[:, 2] += 3
    return some


@pytest.mark.parametrize(
    ("changes", "offset", "image"),
    [
        ({}, (0, 0), (640, 480)),
        ({"binning_x": 2, "binning_y": 4}, (0, 0), (640, 480)),
        ({"roi": RegionOfInterest(x_offset=100, y_offset=40, width=320, height=200)}, (100, 40), (320, 200)),
    ],
    ids=["whole", "binned", "region"],
)
def test_a_point_is_seen_at_the_same_place_of_the_mask(changes, offset, image):
    size = (96, 256)
    scaled = scaled_camera_info(info(**changes), size)
    factor = np.array([size[1] / image[0], size[0] / image[1]])
    for before, after, length in ((K, scaled.k, 3), (P, scaled.p, 4)):
        # pixels are counted from the centre of the first one, so their left and upper edge is at -1/2
        expected = (projected(before, points(length)) - offset + 0.5) * factor - 0.5
        np.testing.assert_allclose(projected(after, points(length)), expected, rtol=0, atol=1e-9)  # float64
    assert (scaled.height, scaled.width) == size
    assert (scaled.binning_x, scaled.binning_y, scaled.roi.width, scaled.roi.x_offset) == (0, 0, 0, 0)


def test_what_has_no_pixels_stays():
    came = info()
    scaled = scaled_camera_info(came, (100, 100))
    assert (scaled.header, scaled.distortion_model) == (came.header, came.distortion_model)
    assert list(scaled.d) == list(came.d)
    np.testing.assert_array_equal(scaled.r, came.r)
    np.testing.assert_array_equal(came.k, K)  # the message that came is as it was


@pytest.mark.parametrize("changes", [{"height": 0, "width": 0}, {"k": [0.0] * 9, "p": [0.0] * 12}])
def test_an_uncalibrated_camera_stays_one(changes):
    came = info(**changes)
    scaled = scaled_camera_info(came, (48, 64))
    assert (scaled.height, scaled.width) == (48, 64)
    np.testing.assert_array_equal(scaled.k, came.k)


def test_numbers_that_are_none_are_passed_on():
    scaled = scaled_camera_info(info(k=[np.nan] * 9), (48, 64))
    assert np.isnan(scaled.k).all()
