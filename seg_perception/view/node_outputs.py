"""What a running segmentation node publishes, shown as it comes: nothing is segmented here."""

from __future__ import annotations

import colorsys
import json
import re
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import String

from seg_perception.images import compressed_message_to_rgb, decode_label_image, image_message_to_rgb
from seg_perception.view.recording import ViewRecording
from seg_perception.view.show import Shown

MOST_WAITING = 4  # messages of a topic; the oldest goes when another comes
_TAKE_S = 0.2
_LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_FLOAT32, _UINT8 = 7, 2  # sensor_msgs/PointField
_TAIL = re.compile(r"^stage_.+_p\d+_ms$")  # of stages the medians are shown


class Arrivals:
    """Messages on their way from callbacks to the one who shows them: of each kind a few, in the order in which they came."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._condition = threading.Condition()
        self._waiting: deque[tuple[tuple[str, str], Any]] = deque()
        self._most = most
        self.dropped = 0

    def put(self, kind: tuple[str, str], message: Any) -> None:
        """Add one of a kind, which is a camera and an output; where `most` of it wait, the oldest of them is dropped."""
        with self._condition:
            same = [entry for entry in self._waiting if entry[0] == kind]
            if len(same) >= self._most:
                self._waiting.remove(same[0])
                self.dropped += 1
            self._waiting.append((kind, message))
            self._condition.notify()

    def take(self, timeout_s: float) -> tuple[tuple[str, str], Any] | None:
        """The one that waits longest; None where none came in time."""
        with self._condition:
            self._condition.wait_for(lambda: bool(self._waiting), timeout_s)
            return self._waiting.popleft() if self._waiting else None


class NodeOutputs:
    """Subscribes to a segmentation node and shows what comes.

    Args:
        node: that is spinning.
        name: of the segmentation node, such as /segmentation, or of one of its cameras, such as /segmentation/front.
        recording: takes what is seen.
        counts: of labels shown and of messages dropped.
        points: whether to ask for points, which the node makes only for those who do.
        cameras: of a node with several their names; else the one empty name.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        recording: ViewRecording,
        counts: Shown,
        points: bool = True,
        cameras: tuple[str, ...] = ("",),
    ) -> None:
        self._name, self._recording, self._counts = name, recording, counts
        self._arrivals = Arrivals()
        self._told: set[str] = set()
        self._cameras = {
            camera: CameraOutputs(node, name, camera, recording, counts, self._arrivals, points) for camera in cameras
        }
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def run(self, max_frames: int = 0) -> None:
        """Until something ends it, or `max_frames` labels were shown."""
        while not max_frames or self._counts.shown < max_frames:
            arrived = self._arrivals.take(_TAKE_S)
            self._counts.dropped = self._arrivals.dropped
            if arrived is None:
                continue
            (camera, kind), message = arrived
            try:
                self._cameras[camera].show(kind, message)
            except (ValueError, KeyError, TypeError) as error:  # of ImageError too; a sender may send anything
                topic = "/".join(part for part in (self._name, camera, kind) if part)
                if topic not in self._told:
                    self._told.add(topic)
                    self._recording.tell(f"{topic} left out: {' '.join(str(error).split())}")

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for camera in self._cameras:  # each shows its own status of it
            self._arrivals.put((camera, "diagnostics"), message)


class CameraOutputs:
    """What a node publishes of one camera.

    Args:
        node, name, recording, counts, points: as of `NodeOutputs`.
        camera: its name; empty: the only one.
        arrivals: takes the messages; `show` gets them from there.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        camera: str,
        recording: ViewRecording,
        counts: Shown,
        arrivals: Arrivals,
        points: bool,
    ) -> None:
        self._node, self._camera, self._recording, self._counts = node, camera, recording, counts
        self._arrivals = arrivals
        self._image_topic = ""
        parent, _, leaf = name.rpartition("/")
        # A node of several cameras has a status for each; `name` may be of the node or of one of them.
        self._status_names = {f"{name}: {camera}"} if camera else {name, f"{parent}: {leaf}"}
        self._view = recording.camera(camera)
        prefix = f"{name}/{camera}" if camera else name
        masks = QoSProfile(depth=MOST_WAITING)
        for output in ("labels", "superpixels", "confidence"):
            self._listen(Image, f"{prefix}/{output}", output, masks)
        if points:
            self._listen(PointCloud2, f"{prefix}/points", "points", qos_profile_sensor_data)
        self._listen(_label_info(), f"{prefix}/label_info", "label_info", _LATCHED)
        self._show: dict[str, Callable[[Any], None]] = {
            "image": self._show_image,
            "labels": self._show_labels,
            "superpixels": lambda m: self._view.superpixels(_uint16(m)),
            "confidence": lambda m: self._view.confidence(_uint8(m)),
            "points": self._show_points,
            "diagnostics": self._show_diagnostics,
            "label_info": self._show_label_info,
        }

    def show(self, kind: str, message: Any) -> None:
        """One message. Raises ValueError, KeyError, TypeError where it is none that can be shown."""
        if kind not in ("diagnostics", "label_info"):
            stamp = message.header.stamp
            self._recording.at(stamp.sec * 10**9 + stamp.nanosec)
        self._show[kind](message)

    def _listen(self, kind: Any, topic: str, name: str, qos: QoSProfile) -> None:
        key = (self._camera, name)
        self._node.create_subscription(kind, topic, lambda message: self._arrivals.put(key, message), qos)

    def _show_image(self, message: Any) -> None:
        compressed = isinstance(message, CompressedImage)
        self._view.image(compressed_message_to_rgb(message) if compressed else image_message_to_rgb(message))

    def _show_labels(self, message: Image) -> None:
        self._view.labels(_uint8(message))
        self._counts.shown += 1
        self._view.counts({"shown": self._counts.shown, "dropped": self._counts.dropped})

    def _show_points(self, message: PointCloud2) -> None:
        points = labelled_points(message)
        xyz = np.stack([points["x"], points["y"], points["z"]], axis=1)  # (N, 3)
        self._view.points(xyz, points["label"])

    def _show_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name not in self._status_names:
                continue
            values = {pair.key: pair.value for pair in status.values}
            stages = {
                key.removeprefix("stage_").removesuffix("_ms"): float(value)
                for key, value in values.items()
                if key.startswith(("stage_", "latency_")) and key.endswith("_ms") and not _TAIL.search(key)
            }
            stamp = message.header.stamp
            self._recording.at(stamp.sec * 10**9 + stamp.nanosec)
            self._view.latencies(stages)
            self._listen_to_camera(values.get("image_topic", ""))

    def _listen_to_camera(self, topic: str) -> None:
        """The camera is the one of which the node says that it listens to it."""
        if topic and topic != self._image_topic:
            types = dict(self._node.get_topic_names_and_types()).get(topic, [])
            if types:
                self._image_topic = topic
                compressed = "sensor_msgs/msg/CompressedImage" in types
                self._listen(CompressedImage if compressed else Image, topic, "image", qos_profile_sensor_data)

    def _show_label_info(self, message: Any) -> None:
        names, palette = classes_of(message)
        self._view.classes(names, palette)


def classes_of(message: Any) -> tuple[list[str], np.ndarray]:
    """Names and colours, uint8 [K, 3], of a vision_msgs/LabelInfo or of the JSON in a std_msgs/String.

    A LabelInfo has no colours: ids get hues that lie as far apart as those of neighbours can.

    Raises:
        ValueError, KeyError: it is not what the node publishes.
    """
    if isinstance(message, String):
        entries = sorted(json.loads(message.data)["class_map"], key=lambda entry: entry["class_id"])
        names = [str(entry["class_name"]) for entry in entries]
        return names, np.array([entry["color"] for entry in entries], np.uint8).reshape(-1, 3)
    names = [c.class_name for c in sorted(message.class_map, key=lambda c: c.class_id)]
    golden = 0.618033988749895
    hues = [colorsys.hsv_to_rgb(i * golden % 1.0, 0.65, 0.95) for i in range(len(names))]
    return names, np.rint(255 * np.array(hues)).astype(np.uint8).reshape(-1, 3)


def labelled_points(message: PointCloud2) -> np.ndarray:
    """x y z, float32, and label, uint8, of every finite point of a cloud with these fields: [N].

    Raises:
        ValueError: it lacks one of them, or its data does not fit its size.
    """
    fields = {field.name: field for field in message.fields}
    wanted = {"x": _FLOAT32, "y": _FLOAT32, "z": _FLOAT32, "label": _UINT8}
    if any(name not in fields or fields[name].datatype != kind for name, kind in wanted.items()):
        have = ", ".join(f"{name} ({field.datatype})" for name, field in fields.items()) or "none"
        raise ValueError(f"cloud has the fields {have}; expected x y z as float32 and label as uint8")
    if len(message.data) != message.row_step * message.height:
        raise ValueError(f"cloud of {message.width}x{message.height} points has {len(message.data)} bytes")
    order = ">" if message.is_bigendian else "<"
    record = np.dtype(
        {
            "names": list(wanted),
            "formats": [f"{order}f4"] * 3 + ["u1"],
            "offsets": [fields[name].offset for name in wanted],
            "itemsize": message.point_step,
        }
    )
    rows = np.ndarray(
        (message.height, message.width),
        record,
        np.frombuffer(message.data, np.uint8),
        strides=(message.row_step, message.point_step),
    )
    points = rows.reshape(-1)
    return points[np.isfinite(points["x"]) & np.isfinite(points["y"]) & np.isfinite(points["z"])]


def _uint8(message: Image) -> np.ndarray:
    return decode_label_image(message.height, message.width, message.encoding, message.step, message.data)


def _uint16(message: Image) -> np.ndarray:
    if message.encoding != "16UC1":
        raise ValueError(f"superpixels have encoding {message.encoding!r}, expected '16UC1'")
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    return rows[:, : 2 * message.width].copy().view(">u2" if message.is_bigendian else "<u2").astype(np.uint16)


def _label_info() -> Any:
    """The type that the node uses here: see `seg_perception.ros.label_info`."""
    try:
        from vision_msgs.msg import LabelInfo
    except ImportError:
        return String
    return LabelInfo
