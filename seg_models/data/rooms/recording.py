"""The folder that a trajectory is written to and read from.

```
images/000000.jpg  labels/000000.png (mono8, 255 = not labelled)  depth/000000.png (16UC1, mm along the optical axis, 0 = none)
poses.csv          timestamp_ns, x, y, z, qx, qy, qz, qw: the optical frame (x right, y down, z forward) in the room
camera.yaml        ROS calibration file: image size, K, D, R, P
```
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import yaml

from seg_models.data.rooms.cameras import Intrinsics, Pose

POSE_COLUMNS = ("timestamp_ns", "x", "y", "z", "qx", "qy", "qz", "qw")
CAMERA_NAME = "camera"


def write_camera(path: Path, intrinsics: Intrinsics) -> None:
    """Write the intrinsics as a ROS calibration file (plumb_bob without distortion)."""
    k = intrinsics.matrix()
    p = np.concatenate([k, np.zeros((3, 1))], axis=1)

    def matrix(m: np.ndarray) -> dict:
        return {"rows": m.shape[0], "cols": m.shape[1], "data": [float(v) for v in m.ravel()]}

    content = {
        "image_width": intrinsics.width,
        "image_height": intrinsics.height,
        "camera_name": CAMERA_NAME,
        "camera_matrix": matrix(k),
        "distortion_model": "plumb_bob",
        "distortion_coefficients": matrix(np.zeros((1, 5))),
        "rectification_matrix": matrix(np.eye(3)),
        "projection_matrix": matrix(p),
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None))


def read_camera(path: Path) -> Intrinsics:
    """Read what `write_camera` wrote."""
    content = yaml.safe_load(path.read_text())
    k = np.array(content["camera_matrix"]["data"], float).reshape(3, 3)
    return Intrinsics(content["image_width"], content["image_height"], k[0, 0], k[1, 1], k[0, 2], k[1, 2])


def write_poses(path: Path, stamps_ns: np.ndarray, poses: list[Pose]) -> None:
    part = path.with_suffix(".part")  # a stopped run leaves no half-written poses behind
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(POSE_COLUMNS)
        for stamp, pose in zip(stamps_ns, poses, strict=True):
            writer.writerow([int(stamp), *(f"{v:.9f}" for v in (*pose.position, *pose.quaternion))])
    part.replace(path)


def read_poses(path: Path) -> tuple[np.ndarray, list[Pose]]:
    """Stamps (int64 [N], ns) and poses of `poses.csv`.

    Raises:
        ValueError: the columns are not those of a trajectory.
    """
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    if not rows or tuple(rows[0]) != POSE_COLUMNS:
        raise ValueError(f"{path}: expected the columns {', '.join(POSE_COLUMNS)}")
    stamps = np.array([int(row[0]) for row in rows[1:]], np.int64)
    values = [[float(v) for v in row[1:]] for row in rows[1:]]
    return stamps, [Pose((v[0], v[1], v[2]), (v[3], v[4], v[5], v[6])) for v in values]


def frame_name(index: int) -> str:
    return f"{index:06d}"


def depth_to_millimetres(depth_m: np.ndarray) -> np.ndarray:
    """16UC1 depth image (uint16 [H, W], mm, 0 = none) of depth in metres (float [H, W])."""
    return np.clip(np.rint(depth_m * 1000), 0, 65535).astype(np.uint16)
