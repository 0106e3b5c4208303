"""Pictures of a ROS topic of images: the newest one each time, with its depth where there is a topic of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep

import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from seg_perception.bag.replay import spinning
from seg_perception.images import ImageError
from seg_perception.ros.frame_decoder import FrameDecoder
from seg_perception.view.depth_pairing import DepthPairing
from seg_perception.view.newest import Newest
from seg_perception.view.picture import Clock, Picture, SourceError

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
NODE = "node"
LABELS = "labels"  # the output that every segmentation node has
_LOOK_EVERY_S = 0.1
_TAKE_S = 0.2  # how soon the end of a run is noticed
_MOST_NAMES = 12  # in a message

Tell = Callable[[str], None]


class ImageTopicSource:
    """The images of a topic.

    Args:
        node: that is spinning.
        topic: of the images.
        compressed: whether they are CompressedImage.
        tell: takes a line on what cannot be used; once a kind.
        depth_topic, info_topic: of raw depth images and of the camera's calibration, for points; empty: none.
    """

    clock: Clock = "epoch"

    def __init__(
        self, node: Node, topic: str, compressed: bool, tell: Tell, depth_topic: str = "", info_topic: str = ""
    ) -> None:
        self.description = f"topic {topic}"
        self._tell = tell
        self._told: set[str] = set()
        self._decoder = FrameDecoder(compressed)
        self._newest: Newest[bytes] = Newest()
        self._pairing = DepthPairing()
        self._unusable = 0
        kind = CompressedImage if compressed else Image
        node.create_subscription(kind, topic, self._on_image, qos_profile_sensor_data, raw=True)
        if depth_topic:
            node.create_subscription(Image, depth_topic, self._on_depth, qos_profile_sensor_data)
            node.create_subscription(CameraInfo, info_topic, self._on_info, qos_profile_sensor_data)

    @property
    def dropped(self) -> int:
        """Images that a newer one overtook, or that cannot be decoded."""
        return self._newest.dropped + self._unusable

    def __iter__(self) -> Iterator[Picture]:
        """Until `close`."""
        while not self._newest.closed:
            serialized = self._newest.take(_TAKE_S)
            if serialized is None:
                continue
            try:
                frame = self._decoder.decode(serialized)
            except ImageError as error:
                self._unusable += 1
                self._tell_once("image", error)
                continue
            stamp_ns = frame.header.stamp_ns
            yield Picture(stamp_ns, frame.rgb, self._pairing.depth_at(stamp_ns))

    def close(self) -> None:
        """End the iteration."""
        self._newest.close()

    def _on_image(self, serialized: bytes) -> None:
        self._newest.put(serialized)

    def _on_depth(self, message: Image) -> None:
        try:
            self._pairing.add_depth(message)
        except SourceError as error:
            self._tell_once("depth", error)

    def _on_info(self, message: CameraInfo) -> None:
        try:
            self._pairing.add_camera_info(message)
        except SourceError as error:
            self._tell_once("info", error)

    def _tell_once(self, kind: str, error: Exception) -> None:
        if kind not in self._told:
            self._told.add(kind)
            self._tell(f"{self.description}: {kind} left out: {error}")


@contextmanager
def listening() -> Iterator[Node]:
    """A node of this process, spun in a thread. Ctrl-C arrives as KeyboardInterrupt: ROS sets no handlers of its own."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = Node("segmentation_view", start_parameter_services=False)
        with spinning(node):
            yield node
    finally:
        rclpy.try_shutdown()


@dataclass(frozen=True)
class Found:
    """What a name stands for.

    Attributes:
        kind: the type of an image topic, or NODE.
        cameras: of a node with several their names; else the one empty name.
    """

    kind: str
    cameras: tuple[str, ...] = ("",)


def what_is_there(node: Node, name: str, wait_s: float) -> Found:
    """An image topic, a segmentation node, or one of its cameras.

    Args:
        node: that is spinning.
        name: absolute, with its leading slash.
        wait_s: to look for it; discovery takes a moment.

    Raises:
        SourceError: neither is there, or the topic is of another type.
    """
    end_s = monotonic() + wait_s
    cameras: tuple[str, ...] = ()
    while True:
        topics: dict[str, list[str]] = dict(node.get_topic_names_and_types())
        types = topics.get(name, [])
        for kind in (RAW, COMPRESSED):
            if kind in types and node.count_publishers(name):
                return Found(kind)
        if RAW in topics.get(f"{name}/{LABELS}", []):
            return Found(NODE)
        before, cameras = cameras, cameras_below(name, topics)
        if cameras and cameras == before:  # they do not become known all at once
            return Found(NODE, cameras)
        if types and not {RAW, COMPRESSED} & set(types):
            raise SourceError(f"topic {name} is {', '.join(types)}, expected {RAW} or {COMPRESSED}")
        if monotonic() >= end_s:
            raise SourceError(f"nothing publishes images on {name} after {wait_s:g} s; {image_topics(topics)}")
        sleep(_LOOK_EVERY_S)


def cameras_below(name: str, topics: dict[str, list[str]]) -> tuple[str, ...]:
    """Names of the cameras of a node of that name, by their topics of labels."""
    below = re.compile(rf"{re.escape(name)}/(\w+)/{LABELS}")
    matches = [below.fullmatch(topic) for topic, types in sorted(topics.items()) if RAW in types]
    return tuple(match[1] for match in matches if match is not None)


def image_topics(topics: dict[str, list[str]]) -> str:
    """Those of `topics`, names with their types, that have images: a clause for a message."""
    names = [name for name, types in sorted(topics.items()) if {RAW, COMPRESSED} & set(types)]
    if not names:
        return "no topic of images is heard here: is ROS_DOMAIN_ID the robot's?"
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"topics of images that are heard: {', '.join(names[:_MOST_NAMES])}{more}"
