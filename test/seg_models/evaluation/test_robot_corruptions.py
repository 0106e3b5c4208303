"""What befalls robots' cameras: each does what it is named for, at any size alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from seg_models.evaluation.corruptions import CORRUPTIONS, ROBOT_GROUPS, corrupt
from seg_models.evaluation.robot_corruptions import FULL_WELL, READ_NOISE, camera_motion, from_linear, to_linear
from test.seg_models.evaluation.test_corruptions import street

ROBOT = ROBOT_GROUPS["robot"]


@pytest.mark.parametrize("name", ROBOT)
def test_it_keeps_shape_and_type_is_the_same_from_a_seed_and_grows(name):
    image = street()
    made = {severity: corrupt(image, name, severity, np.random.default_rng(1)) for severity in (1, 5)}
    assert all((one.shape, one.dtype) == (image.shape, np.uint8) for one in made.values())
    assert np.array_equal(made[5], corrupt(image, name, 5, np.random.default_rng(1)))
    assert np.array_equal(image, street())
    change = {severity: np.abs(one.astype(float) - image).mean() for severity, one in made.items()}
    assert change[5] > change[1] > 0.3
    assert corrupt(image[:1, :1].copy(), name, 3, np.random.default_rng(2)).shape == (1, 1, 3)


def test_they_are_none_of_table_15s():
    assert not ROBOT.keys() & CORRUPTIONS.keys()
    assert len(ROBOT) == 4


def test_light_is_linear_and_back():
    x = np.linspace(0, 1, 256)
    assert from_linear(to_linear(x)) == pytest.approx(x, abs=1e-6)
    assert to_linear(np.array(0.5)) == pytest.approx(0.2140, abs=1e-4)  # of the standard's formula


def test_a_moving_camera_draws_a_point_into_a_line_of_its_length_and_keeps_the_light():
    point = np.zeros((201, 201, 3), np.float32)
    point[100, 100] = 1
    made = to_linear(camera_motion(point, 3, np.random.default_rng(0)))
    assert made[..., 0].sum() == pytest.approx(1, rel=0.02)  # OpenCV filters with large kernels by Fourier transforms
    rows, columns = np.nonzero(made[..., 0] > 0.02)
    length = np.hypot(np.ptp(rows), np.ptp(columns))
    assert length == pytest.approx(0.03 * 201, abs=1.5)


def test_a_stop_less_is_half_the_light_and_noise_is_that_of_photons():
    grey = np.full((200, 200, 3), 188, np.uint8)  # half of white's light
    made = to_linear(corrupt(grey, "underexposure", 1, np.random.default_rng(3)) / 255.0)
    assert made.mean() == pytest.approx(0.25, abs=0.01)
    electrons = 0.25 * FULL_WELL
    # And the rounding to a byte, whose step is about 1/170 of white's light here.
    expected = np.hypot(np.sqrt(electrons + READ_NOISE**2) / FULL_WELL, 1 / 170 / np.sqrt(12))
    assert made.std() == pytest.approx(expected, rel=0.05)


def test_too_much_light_turns_white_and_dirt_is_dark_and_soft():
    image = street()
    bright = corrupt(image, "overexposure", 4, np.random.default_rng(4))
    assert (bright == 255).mean() > 0.5 > (image == 255).mean()
    dirty = corrupt(np.full_like(image, 200), "lens_dirt", 3, np.random.default_rng(4))
    assert dirty.min() < 160
    assert dirty.max() in (199, 200)
    assert np.abs(cv2.Laplacian(dirty, cv2.CV_64F)).max() < 100  # no edge in it
