"""Writes small recordings with rosbags, and messages as rosbags and rclpy hand them out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"


def header(stamp_ns: int, frame_id: str = "camera") -> Any:
    """A std_msgs/Header."""
    time = TYPESTORE.types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return TYPESTORE.types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def image_message(pixels: np.ndarray, stamp_ns: int, encoding: str) -> Any:
    """A sensor_msgs/Image without padding."""
    return TYPESTORE.types[IMAGE](
        header=header(stamp_ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=np.ascontiguousarray(pixels).view(np.uint8).reshape(-1),
    )


def compressed_message(pixels: np.ndarray, stamp_ns: int, suffix: str) -> Any:
    """A sensor_msgs/CompressedImage; `pixels` are RGB or class ids, `suffix` is "png" or "jpg"."""
    stored = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    encoded = cv2.imencode(f".{suffix}", stored)[1]
    return TYPESTORE.types[COMPRESSED](
        header=header(stamp_ns), format="jpeg" if suffix == "jpg" else suffix, data=encoded.reshape(-1)
    )


def write_bag(
    folder: Path,
    messages: Iterable[tuple[str, int, Any]],
    storage: str = "mcap",
    topics: Iterable[tuple[str, str]] = (),
) -> Path:
    """Write a rosbag2 folder and return the path of its storage file.

    Args:
        folder: to create.
        messages: topic, time in ns, and a message object or ready CDR bytes (whose topic must be in `topics`).
        storage: "mcap" or "sqlite3".
        topics: further topics with their types, made before the messages.
    """
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        connections = {topic: writer.add_connection(topic, kind, typestore=TYPESTORE) for topic, kind in topics}
        for topic, time_ns, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=TYPESTORE)
            data = message
            if not isinstance(message, bytes):
                data = bytes(TYPESTORE.serialize_cdr(message, message.__msgtype__))
            writer.write(connections[topic], time_ns, data)
    suffix = ".mcap" if storage == "mcap" else ".db3"
    return folder / f"{folder.name}{suffix}"
