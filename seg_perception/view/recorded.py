"""Pictures of a recording, with their depth where the recording has it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from seg_perception.bag.frames import COMPRESSED_IMAGE, IMAGE, IMAGE_TYPES, header_stamp_ns, prefetch
from seg_perception.bag.reader import BagMessage, BagReader, MessageError, open_bag
from seg_perception.images import (
    ImageError,
    compressed_message_to_rgb,
    image_message_to_rgb,
)
from seg_perception.view.depth_pairing import DepthPairing
from seg_perception.view.picture import Clock, Picture, SourceError

logger = logging.getLogger(__name__)

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
_AHEAD = 2


class RecordedSource:
    """The images of a topic of a recording.

    Args:
        path: of the recording; see `seg_perception.bag.reader.open_bag`.
        image_topic: with sensor_msgs/Image or CompressedImage; empty: the first one whose images are in colour.
        depth_topic: with raw depth images, for points; empty: none.
        info_topic: the camera's calibration, for points; empty: the only CameraInfo topic.

    Raises:
        BagError: it cannot be read, or has no such topic.
        SourceError: it has no topic of images, or points were asked for without a calibration.
    """

    clock: Clock = "epoch"

    def __init__(self, path: Path, image_topic: str = "", depth_topic: str = "", info_topic: str = "") -> None:
        self._bag = open_bag(path)
        self.dropped = 0
        try:
            self._image_topic = image_topic or _colour_topic(self._bag, depth_topic)
            self._bag.topic(self._image_topic, IMAGE_TYPES)
            self._depth_topic, self._info_topic = depth_topic, ""
            if depth_topic:
                self._bag.topic(depth_topic, (IMAGE,))
                self._info_topic = info_topic or _only_info_topic(self._bag)
                self._bag.topic(self._info_topic, (CAMERA_INFO,))
        except ValueError:
            self._bag.close()
            raise
        self.description = f"{self._image_topic} of {path}"

    def __iter__(self) -> Iterator[Picture]:
        """The images in the order in which they were recorded. Raises SourceError where none can be decoded."""
        yield from prefetch(self._decoded(), _AHEAD)

    def _decoded(self) -> Iterator[Picture]:
        """An image waits for a depth image of its stamp or later, at the most until the next image comes."""
        pairing, waiting, shown = DepthPairing(), deque[BagMessage](), 0
        topics = [topic for topic in (self._image_topic, self._depth_topic, self._info_topic) if topic]
        for message in self._bag.messages(topics):
            try:
                if message.topic == self._depth_topic:
                    pairing.add_depth(self._bag.deserialize(message))
                elif message.topic == self._info_topic:
                    pairing.add_camera_info(self._bag.deserialize(message))
                else:
                    waiting.append(message)
            except (MessageError, SourceError) as error:
                self._left_out(message, error)
            while waiting and (len(waiting) > 1 or self._is_ready(waiting[0], pairing)):
                for picture in self._picture(waiting.popleft(), pairing):
                    shown += 1
                    yield picture
        for message in waiting:
            for picture in self._picture(message, pairing):
                shown += 1
                yield picture
        if not shown:
            raise SourceError(f"{self.description} has no image that can be used")

    def _is_ready(self, message: BagMessage, pairing: DepthPairing) -> bool:
        stamp_ns = header_stamp_ns(message)
        if not self._depth_topic or stamp_ns is None:
            return True
        return pairing.newest_ns is not None and pairing.newest_ns >= stamp_ns

    def _picture(self, message: BagMessage, pairing: DepthPairing) -> Iterator[Picture]:
        try:
            image = self._bag.deserialize(message)
            rgb = compressed_message_to_rgb(image) if message.type == COMPRESSED_IMAGE else image_message_to_rgb(image)
        except (MessageError, ImageError) as error:
            self._left_out(message, error)
            return
        stamp_ns = header_stamp_ns(message)
        yield Picture(stamp_ns, rgb, None if stamp_ns is None else pairing.depth_at(stamp_ns))

    def _left_out(self, message: BagMessage, error: Exception) -> None:
        if not self.dropped:
            logger.warning("topic %s: a message is left out: %s; further ones are counted", message.topic, error)
        self.dropped += 1

    def close(self) -> None:
        """Close the recording."""
        self._bag.close()


def _colour_topic(bag: BagReader, depth_topic: str) -> str:
    """The one topic of camera images; where there are several, the one whose first image is in colour.

    Labels, depth and the node's own masks are of one channel.
    """
    topics = [topic.name for topic in bag.topics().values() if topic.type in IMAGE_TYPES and topic.name != depth_topic]
    if not topics:
        have = "; ".join(str(topic) for topic in bag.topics().values()) or "none"
        raise SourceError(f"bag {bag.path} has no image topic; it has: {have}")
    coloured = topics if len(topics) == 1 else [name for name in topics if _is_colour(bag, name)]
    if len(coloured) == 1:
        return coloured[0]
    raise SourceError(
        f"bag {bag.path} has {len(topics)} image topics: {', '.join(topics)}; say which with --image-topic"
    )


def _is_colour(bag: BagReader, topic: str) -> bool:
    message = next(bag.messages([topic]), None)
    if message is None:
        return False
    try:
        image = bag.deserialize(message)
        if message.type == IMAGE:
            return image.encoding not in ("mono8", "8UC1", "mono16", "16UC1", "32FC1") and bool(
                image_message_to_rgb(image).size
            )
        rgb = compressed_message_to_rgb(image)
    except (MessageError, ImageError):
        return False
    return bool((rgb[..., 0] != rgb[..., 1]).any())


def _only_info_topic(bag: BagReader) -> str:
    topics = [topic.name for topic in bag.topics().values() if topic.type == CAMERA_INFO]
    if len(topics) == 1:
        return topics[0]
    have = ", ".join(topics) or "none"
    raise SourceError(
        f"bag {bag.path} has {len(topics)} topics of {CAMERA_INFO}: {have}; points need one: say which with --info-topic"
    )
