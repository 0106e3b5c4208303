"""Pinhole cameras in a room: intrinsics, poses in the ROS optical convention, and random single views.

World frame: x east, y north, z up (m). Optical frame (REP 103): x right, y down, z forward.
A pose is the optical frame in the world: p_world = R p_optical + t.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from seg_models.data.rooms.floor_plan import FloorPlan

OPTICAL_FROM_RENDERER = np.diag([1.0, -1.0, -1.0])  # Blender's camera looks along -z with y up


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole intrinsics (pixels); pixel (0, 0) has its centre at coordinates (0, 0), as in ROS and OpenCV."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    @staticmethod
    def from_fov(width: int, height: int, horizontal_fov_deg: float) -> Intrinsics:
        """Square pixels and the principal point in the image centre.

        Raises:
            ValueError: a size that is not positive or a field of view outside (0, 180) degrees.
        """
        if width <= 0 or height <= 0:
            raise ValueError(f"image size {width}x{height} must be positive")
        if not 0 < horizontal_fov_deg < 180:
            raise ValueError(f"horizontal field of view {horizontal_fov_deg} must be between 0 and 180 degrees")
        f = width / 2 / math.tan(math.radians(horizontal_fov_deg) / 2)
        return Intrinsics(width, height, f, f, (width - 1) / 2, (height - 1) / 2)

    @property
    def horizontal_fov_rad(self) -> float:
        return 2 * math.atan(self.width / 2 / self.fx)

    def matrix(self) -> np.ndarray:
        """K, float [3, 3]."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])

    def to_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Pose:
    """Optical frame of a camera in the world: position (m) and unit quaternion (x, y, z, w), w >= 0."""

    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]

    @staticmethod
    def looking(position: np.ndarray, yaw: float, pitch: float, roll: float = 0.0) -> Pose:
        """Camera at `position` that looks along `yaw` (rad, from east to north) and `pitch` (rad, up is positive).

        `roll` (rad) turns the camera clockwise about its viewing direction.
        """
        forward = np.array([math.cos(pitch) * math.cos(yaw), math.cos(pitch) * math.sin(yaw), math.sin(pitch)])
        right = np.array([math.sin(yaw), -math.cos(yaw), 0.0])
        down = np.cross(forward, right)
        level = np.stack([right, down, forward], axis=1)  # (3, 3) columns: optical axes in the world
        c, s = math.cos(roll), math.sin(roll)
        rotation = level @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        x, y, z = (float(v) for v in position)
        return Pose((x, y, z), quaternion_from_matrix(rotation))

    def rotation(self) -> np.ndarray:
        """R, float [3, 3]: optical to world."""
        return matrix_from_quaternion(self.quaternion)

    def renderer_matrix(self) -> np.ndarray:
        """Camera-to-world matrix [4, 4] in the renderer's camera convention."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation() @ OPTICAL_FROM_RENDERER
        matrix[:3, 3] = self.position
        return matrix


def quaternion_from_matrix(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """Unit quaternion (x, y, z, w), w >= 0, of a rotation matrix [3, 3].

    The largest component is computed first, so that no division is by a small number.
    """
    m = np.asarray(rotation, float)
    four_squares = np.array(
        [
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
            1 + m[0, 0] + m[1, 1] + m[2, 2],
        ]
    )
    products = np.array(
        [
            [four_squares[0], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
            [m[0, 1] + m[1, 0], four_squares[1], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], four_squares[2], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], four_squares[3]],
        ]
    )
    q = products[int(np.argmax(four_squares))]
    q = q / np.linalg.norm(q)
    if q[3] < 0:
        q = -q
    return (float(q[0]), float(q[1]), float(q[2]), float(q[3]))


def matrix_from_quaternion(quaternion: tuple[float, float, float, float]) -> np.ndarray:
    """Rotation matrix [3, 3] of a unit quaternion (x, y, z, w)."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@dataclass(frozen=True)
class CameraRange:
    """What single views are drawn from: height of the camera and of what it looks at (m), width of its view (degrees) and
    its largest pitch up (rad)."""

    height_m: tuple[float, float] = (0.5, 1.6)
    target_m: tuple[float, float] = (0.2, 1.3)
    fov_deg: tuple[float, float] = (60.0, 85.0)
    most_pitch: float = 0.25


VARIED_CAMERAS = CameraRange((0.2, 1.9), (0.0, 2.1), (50.0, 95.0), 0.45)


def draw_view(
    rng: np.random.Generator,
    plan: FloorPlan,
    width: int,
    height: int,
    clearance_m: float = 0.3,
    cameras: CameraRange = CameraRange(),
) -> tuple[Pose, Intrinsics] | None:
    """Draw a camera in the free space of a room, looking at a piece of furniture.

    Returns:
        The pose and the intrinsics, or None if the room has no free spot for a camera.
    """
    for _ in range(200):
        xy = rng.uniform((0.0, 0.0), (plan.width, plan.depth))
        if plan.clearance(xy[None])[0] < clearance_m:
            continue
        camera_height = rng.uniform(*cameras.height_m)
        if plan.footprints and rng.random() < 0.85:
            aim = plan.footprints[int(rng.integers(len(plan.footprints)))]
            target = np.array([aim.x, aim.y]) + rng.normal(0, 0.4, 2)
        else:
            target = rng.uniform((0.0, 0.0), (plan.width, plan.depth))
        distance = float(np.hypot(*(target - xy)))
        if distance < 1.2:
            continue
        yaw = math.atan2(target[1] - xy[1], target[0] - xy[0])
        pitch = math.atan2(rng.uniform(*cameras.target_m) - camera_height, distance) + rng.normal(0, 0.05)
        pose = Pose.looking(
            np.array([*xy, camera_height]), yaw, float(np.clip(pitch, -0.6, cameras.most_pitch)), rng.normal(0, 0.015)
        )
        return pose, Intrinsics.from_fov(width, height, float(rng.uniform(*cameras.fov_deg)))
    return None
