"""Renders a tiny room for real. Runs in the rooms environment (`make rooms-env`)."""

from __future__ import annotations

import importlib.util
import json
import math

import cv2
import numpy as np
import pytest

from seg_models.data.rooms import recording
from seg_models.data.rooms.cli import main

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None or importlib.util.find_spec("infinigen") is None,
    reason="bpy and infinigen are not installed here; `make rooms-env`, then "
    ".venv-rooms/bin/python -m pytest test/seg_models/data/rooms",
)


WALK = ["trajectory", "--room", "3", "--sparse", "--frames", "2", "--candidates", "1", "--size", "96", "72"]
WALK += ["--samples", "1", "--no-bump", "--out"]


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory):
    out = tmp_path_factory.mktemp("walk") / "room"
    assert main([*WALK, str(out)]) == 0
    return out


def test_trajectory_depth_and_labels_agree_on_the_floor(trajectory):
    """Floor pixels, put back into the room with depth, intrinsics and pose, lie at height 0."""
    camera = recording.read_camera(trajectory / "camera.yaml")
    _, poses = recording.read_poses(trajectory / "poses.csv")
    labels = cv2.imread(str(trajectory / "labels/000000.png"), cv2.IMREAD_UNCHANGED)
    depth = cv2.imread(str(trajectory / "depth/000000.png"), cv2.IMREAD_UNCHANGED) / 1000.0
    assert labels.shape == depth.shape == (72, 96)
    v, u = np.nonzero(labels == 0)
    assert len(v) > 50
    z = depth[v, u]
    optical = np.stack([(u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z, z], axis=1)  # (N, 3)
    world = optical @ poses[0].rotation().T + poses[0].position
    # 5 mm: depth is rounded to 1 mm, and floor seen at a grazing angle multiplies nothing in height
    assert np.abs(world[:, 2]).max() < 0.005


def test_a_stopped_trajectory_continues_to_the_same_frames(trajectory):
    poses = (trajectory / "poses.csv").read_bytes()
    last = trajectory / "labels/000001.png"
    labels = cv2.imread(str(last), cv2.IMREAD_UNCHANGED)
    last.unlink()
    assert main([*WALK, str(trajectory)]) == 0
    assert (trajectory / "poses.csv").read_bytes() == poses
    np.testing.assert_array_equal(cv2.imread(str(last), cv2.IMREAD_UNCHANGED), labels)


def test_views_are_written_with_pose_and_continued(tmp_path, capsys):
    arguments = ["views", "--rooms", "1", "--first-room", "5", "--views", "2", "--size", "96", "72", "--samples", "1"]
    arguments += ["--no-bump", "--depth", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    room = json.loads((tmp_path / "out/poses/train/0005.json").read_text())
    assert [view["name"] for view in room["views"]] == ["0005_0000", "0005_0001"]
    for view in room["views"]:
        image = cv2.imread(str(tmp_path / f"out/images/train/{view['name']}.jpg"))
        labels = cv2.imread(str(tmp_path / f"out/labels/train/{view['name']}.png"), cv2.IMREAD_UNCHANGED)
        assert image.shape == (72, 96, 3)
        assert image.std() > 5  # a picture, not one flat colour
        assert set(np.unique(labels)) <= {*range(16), 255}
        assert math.isclose(np.linalg.norm(view["quaternion_xyzw"]), 1.0, abs_tol=1e-9)
        assert (tmp_path / f"out/depth/train/{view['name']}.png").is_file()
    capsys.readouterr()
    assert main(arguments) == 0
    assert "1 done before, 0 to render" in capsys.readouterr().out
