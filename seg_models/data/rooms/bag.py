"""Turns trajectories into an MCAP bag with ROS 2 Jazzy message types.

| topic | type | content |
|---|---|---|
| /camera/image_raw/compressed | sensor_msgs/msg/CompressedImage | JPEG as rendered |
| /camera/camera_info | sensor_msgs/msg/CameraInfo | K, D, R, P of camera.yaml |
| /camera/labels | sensor_msgs/msg/CompressedImage | format "png": mono8 class ids, 255 = not labelled |
| /camera/depth/image_raw, if asked for | sensor_msgs/msg/Image | 16UC1, mm along the optical axis, 0 = none |
| /tf, if asked for | tf2_msgs/msg/TFMessage | `camera_optical_frame` in `room` |
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from seg_models.data.rooms import recording
from seg_models.data.rooms.cameras import Intrinsics, Pose

FRAME_ID = "camera_optical_frame"
WORLD_FRAME_ID = "room"
IMAGE_TOPIC = "/camera/image_raw/compressed"
INFO_TOPIC = "/camera/camera_info"
LABELS_TOPIC = "/camera/labels"
DEPTH_TOPIC = "/camera/depth/image_raw"
TF_TOPIC = "/tf"

STORE = get_typestore(Stores.ROS2_JAZZY)
CompressedImage = STORE.types["sensor_msgs/msg/CompressedImage"]
Image = STORE.types["sensor_msgs/msg/Image"]
CameraInfo = STORE.types["sensor_msgs/msg/CameraInfo"]
Header = STORE.types["std_msgs/msg/Header"]
Time = STORE.types["builtin_interfaces/msg/Time"]


@dataclass(frozen=True)
class BagSummary:
    """What was written."""

    frames: int
    seconds: float


@dataclass(frozen=True)
class Trajectory:
    """A trajectory folder, read and checked."""

    folder: Path
    intrinsics: Intrinsics
    stamps_ns: np.ndarray
    poses: list[Pose]

    @staticmethod
    def open(folder: Path) -> Trajectory:
        """Read camera and poses and check that every frame is there.

        Raises:
            ValueError: not a trajectory folder, or an unfinished one.
        """
        for name in ("camera.yaml", "poses.csv"):
            if not (folder / name).is_file():
                raise ValueError(f"{folder} has no {name}; expected a folder that `trajectory` wrote")
        stamps, poses = recording.read_poses(folder / "poses.csv")
        for index in range(len(stamps)):
            name = recording.frame_name(index)
            for path in (folder / "images" / f"{name}.jpg", folder / "labels" / f"{name}.png"):
                if not path.is_file():
                    raise ValueError(f"{path} is missing: the trajectory is unfinished; run its command again first")
        return Trajectory(folder, recording.read_camera(folder / "camera.yaml"), stamps, poses)


def make_header(stamp_ns: int, frame_id: str = FRAME_ID):
    return Header(stamp=Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9), frame_id=frame_id)


def camera_info(intrinsics: Intrinsics, stamp_ns: int):
    """CameraInfo of an undistorted pinhole camera."""
    k = intrinsics.matrix()
    return CameraInfo(
        header=make_header(stamp_ns),
        height=intrinsics.height,
        width=intrinsics.width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k.ravel(),
        r=np.eye(3).ravel(),
        p=np.concatenate([k, np.zeros((3, 1))], axis=1).ravel(),
        binning_x=0,
        binning_y=0,
        roi=STORE.types["sensor_msgs/msg/RegionOfInterest"](
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        ),
    )


def transform(pose: Pose, stamp_ns: int):
    types = STORE.types
    x, y, z = pose.position
    qx, qy, qz, qw = pose.quaternion
    stamped = types["geometry_msgs/msg/TransformStamped"](
        header=make_header(stamp_ns, WORLD_FRAME_ID),
        child_frame_id=FRAME_ID,
        transform=types["geometry_msgs/msg/Transform"](
            translation=types["geometry_msgs/msg/Vector3"](x=x, y=y, z=z),
            rotation=types["geometry_msgs/msg/Quaternion"](x=qx, y=qy, z=qz, w=qw),
        ),
    )
    return types["tf2_msgs/msg/TFMessage"](transforms=[stamped])


def depth_image(path: Path, stamp_ns: int):
    """Image 16UC1 of a depth PNG.

    Raises:
        ValueError: the file is missing or not 16-bit.
    """
    depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if depth is None or depth.dtype != np.uint16 or depth.ndim != 2:
        raise ValueError(f"{path} is not a 16-bit depth image; was the trajectory rendered by this generator?")
    return Image(
        header=make_header(stamp_ns),
        height=depth.shape[0],
        width=depth.shape[1],
        encoding="16UC1",
        is_bigendian=0,
        step=2 * depth.shape[1],
        data=np.frombuffer(depth.astype("<u2").tobytes(), np.uint8),
    )


def write_bag(folders: list[Path], out: Path, with_depth: bool = False, with_poses: bool = False) -> BagSummary:
    """Write trajectories, one after another in time, as one MCAP file.

    A trajectory that does not begin after the one before it is moved in time to begin one frame interval after it.

    Args:
        folders: trajectory folders.
        out: the file, `*.mcap`; must not exist.
        with_depth: add depth images.
        with_poses: add the camera's pose on /tf.

    Raises:
        ValueError: a folder is no finished trajectory, or `out` is no new .mcap file.
    """
    if out.suffix != ".mcap":
        raise ValueError(f"{out}: a bag is written as one .mcap file; give a name that ends in .mcap")
    if out.exists():
        raise ValueError(f"{out} exists; remove it or give another name")
    trajectories = [Trajectory.open(folder) for folder in folders]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".rooms_bag_") as scratch:
        folder = Path(scratch) / out.stem
        frames, seconds = _write_messages(folder, trajectories, with_depth, with_poses)
        (mcap,) = folder.glob("*.mcap")
        mcap.replace(out)  # metadata.yaml is not needed: an MCAP file describes itself
    return BagSummary(frames, seconds)


def _write_messages(
    folder: Path, trajectories: list[Trajectory], with_depth: bool, with_poses: bool
) -> tuple[int, float]:
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {
            IMAGE_TOPIC: "sensor_msgs/msg/CompressedImage",
            INFO_TOPIC: "sensor_msgs/msg/CameraInfo",
            LABELS_TOPIC: "sensor_msgs/msg/CompressedImage",
            **({DEPTH_TOPIC: "sensor_msgs/msg/Image"} if with_depth else {}),
            **({TF_TOPIC: "tf2_msgs/msg/TFMessage"} if with_poses else {}),
        }
        connections = {topic: writer.add_connection(topic, kind, typestore=STORE) for topic, kind in topics.items()}

        def write(topic: str, stamp_ns: int, message: object) -> None:
            writer.write(connections[topic], stamp_ns, STORE.serialize_cdr(message, topics[topic]))

        first_ns, last_ns, frames = None, None, 0
        for trajectory in trajectories:
            stamps = trajectory.stamps_ns
            if last_ns is not None and stamps[0] <= last_ns:
                stamps = stamps - stamps[0] + last_ns + (stamps[1] - stamps[0])
            for index, stamp in enumerate(int(s) for s in stamps):
                name = recording.frame_name(index)
                for topic, file, encoding in (
                    (IMAGE_TOPIC, trajectory.folder / "images" / f"{name}.jpg", "jpeg"),
                    (LABELS_TOPIC, trajectory.folder / "labels" / f"{name}.png", "png"),
                ):
                    data = np.frombuffer(file.read_bytes(), np.uint8)
                    write(topic, stamp, CompressedImage(header=make_header(stamp), format=encoding, data=data))
                write(INFO_TOPIC, stamp, camera_info(trajectory.intrinsics, stamp))
                if with_depth:
                    write(DEPTH_TOPIC, stamp, depth_image(trajectory.folder / "depth" / f"{name}.png", stamp))
                if with_poses:
                    write(TF_TOPIC, stamp, transform(trajectory.poses[index], stamp))
                first_ns = stamp if first_ns is None else first_ns
                last_ns, frames = stamp, frames + 1
    return frames, 0.0 if first_ns is None or last_ns is None else (last_ns - first_ns) / 1e9
