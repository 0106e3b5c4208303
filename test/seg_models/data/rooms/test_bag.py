from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from seg_models.data.rooms import bag, recording
from seg_models.data.rooms.cameras import Intrinsics, Pose
from seg_models.data.rooms.cli import main

CAMERA = Intrinsics.from_fov(32, 24, 70.0)
START = 1_700_000_000_900_000_000


def write_trajectory(folder: Path, frames: int = 3, value: int = 0) -> Path:
    """A trajectory folder as the worker writes it, with flat pictures."""
    for kind in ("images", "labels", "depth"):
        (folder / kind).mkdir(parents=True)
    stamps = START + np.arange(frames) * 100_000_000
    poses = [Pose.looking(np.array([i / 10, 1.0, 1.2]), 0.1 * i, -0.1) for i in range(frames)]
    recording.write_camera(folder / "camera.yaml", CAMERA)
    recording.write_poses(folder / "poses.csv", stamps, poses)
    for i in range(frames):
        name = recording.frame_name(i)
        assert cv2.imwrite(str(folder / "images" / f"{name}.jpg"), np.full((24, 32, 3), 40 * i, np.uint8))
        labels = np.full((24, 32), value + i, np.uint8)
        labels[0, 0] = 255
        assert cv2.imwrite(str(folder / "labels" / f"{name}.png"), labels)
        depth = recording.depth_to_millimetres(np.full((24, 32), 1.5 + i, np.float32))
        assert cv2.imwrite(str(folder / "depth" / f"{name}.png"), depth)
    return folder


def read(path: Path) -> dict[str, list[tuple[int, object]]]:
    topics: dict[str, list[tuple[int, object]]] = {}
    with AnyReader([path], default_typestore=bag.STORE) as reader:
        for connection, stamp, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            topics.setdefault(connection.topic, []).append((stamp, message))
    return topics


def test_image_info_and_labels_share_stamp_and_frame(tmp_path):
    out = tmp_path / "rooms.mcap"
    summary = bag.write_bag([write_trajectory(tmp_path / "a")], out)
    topics = read(out)
    assert summary.frames == 3
    assert summary.seconds == pytest.approx(0.2)
    assert set(topics) == {bag.IMAGE_TOPIC, bag.INFO_TOPIC, bag.LABELS_TOPIC}
    for messages in zip(*topics.values(), strict=True):
        stamps = {m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for _, m in messages}
        assert stamps == {messages[0][0]}
        assert {m.header.frame_id for _, m in messages} == {"camera_optical_frame"}


def test_payloads_are_the_files_and_labels_are_exact(tmp_path):
    folder = write_trajectory(tmp_path / "a")
    bag.write_bag([folder], tmp_path / "rooms.mcap")
    topics = read(tmp_path / "rooms.mcap")
    image = topics[bag.IMAGE_TOPIC][1][1]
    assert image.format == "jpeg"
    assert bytes(image.data) == (folder / "images" / "000001.jpg").read_bytes()
    labels = topics[bag.LABELS_TOPIC][1][1]
    assert labels.format == "png"
    decoded = cv2.imdecode(labels.data, cv2.IMREAD_UNCHANGED)
    assert decoded.dtype == np.uint8
    assert decoded.shape == (24, 32)
    assert decoded[0, 0] == 255
    assert (decoded.ravel()[1:] == 1).all()


def test_camera_info_is_that_of_the_camera_file(tmp_path):
    bag.write_bag([write_trajectory(tmp_path / "a")], tmp_path / "rooms.mcap")
    info = read(tmp_path / "rooms.mcap")[bag.INFO_TOPIC][0][1]
    assert (info.width, info.height, info.distortion_model) == (32, 24, "plumb_bob")
    np.testing.assert_allclose(info.k.reshape(3, 3), CAMERA.matrix())
    np.testing.assert_allclose(info.p.reshape(3, 4)[:, :3], CAMERA.matrix())
    np.testing.assert_array_equal(info.r.reshape(3, 3), np.eye(3))
    np.testing.assert_array_equal(info.d, np.zeros(5))


def test_a_second_trajectory_follows_the_first_in_time(tmp_path):
    folders = [write_trajectory(tmp_path / "a"), write_trajectory(tmp_path / "b", value=7)]
    summary = bag.write_bag(folders, tmp_path / "rooms.mcap")
    stamps = [stamp for stamp, _ in read(tmp_path / "rooms.mcap")[bag.IMAGE_TOPIC]]
    np.testing.assert_array_equal(np.diff(stamps), 100_000_000)
    assert summary.frames == 6


def test_depth_and_poses_on_request(tmp_path):
    bag.write_bag([write_trajectory(tmp_path / "a")], tmp_path / "rooms.mcap", with_depth=True, with_poses=True)
    topics = read(tmp_path / "rooms.mcap")
    depth = topics[bag.DEPTH_TOPIC][2][1]
    assert (depth.encoding, depth.step, depth.is_bigendian) == ("16UC1", 64, 0)
    assert (depth.data.view("<u2") == 3500).all()
    tf = topics[bag.TF_TOPIC][2][1].transforms[0]
    assert (tf.header.frame_id, tf.child_frame_id) == ("room", "camera_optical_frame")
    expected = Pose.looking(np.array([0.2, 1.0, 1.2]), 0.2, -0.1).quaternion
    r = tf.transform.rotation
    np.testing.assert_allclose([r.x, r.y, r.z, r.w], expected, atol=1e-8)  # the file keeps nine digits


def test_an_unfinished_trajectory_names_the_missing_frame(tmp_path):
    folder = write_trajectory(tmp_path / "a")
    (folder / "labels" / "000002.png").unlink()
    with pytest.raises(ValueError, match=r"000002\.png is missing: the trajectory is unfinished"):
        bag.write_bag([folder], tmp_path / "rooms.mcap")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bag", "{tmp}/nothing", "--out", "{tmp}/b.mcap"], "has no camera.yaml"),
        (["bag", "{tmp}/a", "--out", "{tmp}/b.db3"], "ends in .mcap"),
        (["bag", "{tmp}/a", "--out", "{tmp}/taken.mcap"], "exists; remove it"),
    ],
)
def test_mistakes_are_one_line_and_status_2(tmp_path, capsys, arguments, message):
    write_trajectory(tmp_path / "a")
    (tmp_path / "taken.mcap").touch()
    assert main([a.format(tmp=tmp_path) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_refused_bag_leaves_nothing_behind(tmp_path):
    folder = write_trajectory(tmp_path / "a")
    (folder / "depth" / "000001.png").unlink()
    with pytest.raises(ValueError, match="not a 16-bit depth image"):
        bag.write_bag([folder], tmp_path / "rooms.mcap", with_depth=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_camera_and_poses_can_be_read_back(tmp_path):
    folder = write_trajectory(tmp_path / "a")
    assert recording.read_camera(folder / "camera.yaml") == CAMERA
    stamps, poses = recording.read_poses(folder / "poses.csv")
    assert stamps.tolist() == [START, START + 100_000_000, START + 200_000_000]
    np.testing.assert_allclose(poses[1].position, [0.1, 1.0, 1.2])


def test_depth_rounds_to_millimetres_and_never_wraps():
    depth = recording.depth_to_millimetres(np.array([[0.0, 1.2344, 1.2346, 80.0]]))
    assert depth.tolist() == [[0, 1234, 1235, 65535]]
