from __future__ import annotations

import math

import numpy as np
import pytest

from seg_models.data.rooms.cameras import Intrinsics, Pose, draw_view, matrix_from_quaternion, quaternion_from_matrix
from seg_models.data.rooms.floor_plan import FloorPlan, Footprint


def test_optical_axes_of_a_level_camera_that_looks_east():
    rotation = Pose.looking(np.zeros(3), yaw=0.0, pitch=0.0).rotation()
    np.testing.assert_allclose(rotation[:, 2], [1, 0, 0], atol=1e-12)  # z forward: east
    np.testing.assert_allclose(rotation[:, 0], [0, -1, 0], atol=1e-12)  # x right: south
    np.testing.assert_allclose(rotation[:, 1], [0, 0, -1], atol=1e-12)  # y down


def test_positive_pitch_looks_up_and_roll_turns_the_right_side_down():
    pose = Pose.looking(np.zeros(3), yaw=0.3, pitch=0.2, roll=0.1)
    assert pose.rotation()[2, 2] == pytest.approx(math.sin(0.2))
    assert pose.rotation()[2, 0] < 0


def test_renderer_camera_looks_along_minus_z_with_y_up():
    matrix = Pose.looking(np.array([1.0, 2.0, 3.0]), yaw=math.pi / 2, pitch=0.0).renderer_matrix()
    np.testing.assert_allclose(-matrix[:3, 2], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(matrix[:3, 1], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(matrix[:3, 3], [1, 2, 3])


def test_quaternions_of_random_and_half_turn_rotations_round_trip():
    rng = np.random.default_rng(0)
    rotations = [np.diag(d).astype(float) for d in ([1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1])]
    for _ in range(50):
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        rotations.append(q * np.sign(np.linalg.det(q)))
    for rotation in rotations:
        quaternion = quaternion_from_matrix(rotation)
        assert np.linalg.norm(quaternion) == pytest.approx(1.0)
        assert quaternion[3] >= 0
        np.testing.assert_allclose(matrix_from_quaternion(quaternion), rotation, atol=1e-12)


def test_intrinsics_follow_the_field_of_view():
    camera = Intrinsics.from_fov(480, 360, 90.0)
    assert camera.fx == pytest.approx(240.0)
    assert (camera.cx, camera.cy) == (239.5, 179.5)
    # the left edge of the image is half a pixel left of pixel 0's centre and lies 45 degrees off the axis
    assert math.atan2(-0.5 - camera.cx, camera.fx) == pytest.approx(-math.pi / 4)
    assert camera.horizontal_fov_rad == pytest.approx(math.pi / 2)


@pytest.mark.parametrize(("size", "fov"), [((0, 10), 60), ((10, -1), 60), ((10, 10), 0), ((10, 10), 180)])
def test_impossible_cameras_are_refused(size, fov):
    with pytest.raises(ValueError, match=r"must be (positive|between)"):
        Intrinsics.from_fov(*size, fov)


def test_views_are_drawn_in_free_space_at_robot_height():
    plan = FloorPlan(5.0, 4.0, 2.6, footprints=[Footprint(2.0, 2.0, 0.3, 1.5, 0.8), Footprint(4.5, 0.5, 0, 0.8, 0.8)])
    rng = np.random.default_rng(1)
    for _ in range(50):
        drawn = draw_view(rng, plan, 320, 240)
        assert drawn is not None
        pose, camera = drawn
        assert plan.clearance(np.array([pose.position[:2]]))[0] >= 0.3
        assert 0.5 <= pose.position[2] <= 1.6
        assert 60 <= math.degrees(camera.horizontal_fov_rad) <= 85


def test_a_room_without_free_floor_gives_no_view():
    plan = FloorPlan(4.0, 4.0, 2.5, footprints=[Footprint(2.0, 2.0, 0.0, 4.0, 4.0)])
    assert draw_view(np.random.default_rng(0), plan, 320, 240) is None
