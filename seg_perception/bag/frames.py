"""From a recording to frames: camera images as RGB, each with the label image of the same header stamp."""

from __future__ import annotations

import logging
import queue
import struct
import threading
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from seg_perception.bag.reader import BagError, BagMessage, BagReader, MessageError
from seg_perception.images import (
    ImageError,
    compressed_label_message_to_ids,
    compressed_message_to_rgb,
    image_message_to_rgb,
    label_message_to_ids,
)

logger = logging.getLogger(__name__)

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)
_GIVE_UP_AFTER = 25  # images in a row from the start of which none can be decoded

Item = TypeVar("Item")


@dataclass(frozen=True)
class Frame:
    """One camera image.

    Attributes:
        stamp_ns: of its header.
        rgb: uint8 [H, W, 3].
        labels: uint8 [H, W] true classes, or None where the recording has none for it.
        decode_ms: from the recorded bytes to `rgb`.
    """

    stamp_ns: int
    rgb: np.ndarray
    labels: np.ndarray | None
    decode_ms: float


class FrameSource:
    """The frames of a recording.

    Images that cannot be decoded are left out and counted; the first of each kind is logged.

    Args:
        bag: the open recording.
        image_topic: with sensor_msgs/Image or CompressedImage.
        label_topic: mono8 or 8UC1 images, raw or PNG; None for none.
        max_frames: to stop after so many images; 0 for all.

    Attributes:
        frames_in: images read so far.
        drop_reasons: why images were left out, with counts.
        label_problems: why label messages were left out, with counts; their images are taken without labels.
        total: images there are to read.

    Raises:
        BagError: a topic is missing or of another type, or images and labels do not belong together.
    """

    def __init__(self, bag: BagReader, image_topic: str, label_topic: str | None = None, max_frames: int = 0) -> None:
        self._bag = bag
        self._image_topic = bag.topic(image_topic, IMAGE_TYPES)
        self._label_topic = None if label_topic is None else bag.topic(label_topic, IMAGE_TYPES)
        if self._image_topic.count == 0:
            raise BagError(f"topic {image_topic} of bag {bag.path} has no messages")
        self._max_frames = max_frames
        self.total = min(self._image_topic.count, max_frames) if max_frames else self._image_topic.count
        self.frames_in = 0
        self.drop_reasons: Counter[str] = Counter()
        self.label_problems: Counter[str] = Counter()
        self._first_label_problem = ""
        self._any_label_used = False
        self._label_stamps = self._paired_stamps()
        self._any_decoded = False

    def __iter__(self) -> Iterator[Frame]:
        """Frames in the order of their images. An image waits for its label, whichever of the two came first.

        Raises:
            BagError: no image can be decoded, or a label does not fit its image.
        """
        images: deque[BagMessage] = deque()
        labels: dict[int, BagMessage] = {}
        topics = [self._image_topic.name] + ([self._label_topic.name] if self._label_topic else [])
        for message in self._bag.messages(topics):
            if message.topic == self._image_topic.name:
                if self._max_frames and self.frames_in >= self._max_frames:
                    continue
                self.frames_in += 1
                images.append(message)
            else:
                stamp_ns = header_stamp_ns(message)
                if stamp_ns in self._label_stamps:
                    labels[stamp_ns] = message
            while images and self._is_ready(images[0], labels):
                yield from self._decode(images.popleft(), labels)
            if self._max_frames and self.frames_in >= self._max_frames and not images:
                break
        for message in images:
            yield from self._decode(message, labels)
        if not self._any_decoded and self.frames_in:
            self._give_up()
        if self.label_problems and not self._any_label_used:
            raise BagError(f"no label can be used; the first: {self._first_label_problem}")

    @property
    def warnings(self) -> list[str]:
        """One line on what was left out of the labels so far; none where nothing was."""
        count = self.label_problems.total()
        if not count or self._label_topic is None:
            return []
        return [
            f"{count} of {self._label_topic.count} label messages left out, their images are not scored; the first: "
            f"{self._first_label_problem}"
        ]

    @property
    def frames_per_second(self) -> float:
        """The recording's own rate of images; 10 where it is too short to tell."""
        duration_s = 1e-9 * (self._bag.end_ns - self._bag.start_ns)
        return (self._image_topic.count - 1) / duration_s if duration_s > 0 and self._image_topic.count > 1 else 10.0

    def _is_ready(self, message: BagMessage, labels: dict[int, BagMessage]) -> bool:
        stamp_ns = header_stamp_ns(message)
        return stamp_ns not in self._label_stamps or stamp_ns in labels

    def _decode(self, message: BagMessage, labels: dict[int, BagMessage]) -> Iterator[Frame]:
        """The frame of an image message; nothing where it cannot be decoded."""
        stamp_ns = header_stamp_ns(message)
        label_message = labels.pop(stamp_ns, None) if stamp_ns is not None else None
        start = perf_counter()
        try:
            image = self._bag.deserialize(message)
            rgb = compressed_message_to_rgb(image) if message.type == COMPRESSED_IMAGE else image_message_to_rgb(image)
        except (MessageError, ImageError) as error:
            self._drop(message, error)
            return
        decode_ms = 1e3 * (perf_counter() - start)
        self._any_decoded = True
        labels_of_frame = None if label_message is None else self._decode_labels(label_message, rgb)
        assert stamp_ns is not None  # a message that deserialises has a header
        yield Frame(stamp_ns, rgb, labels_of_frame, decode_ms)

    def _decode_labels(self, message: BagMessage, rgb: np.ndarray) -> np.ndarray | None:
        """True classes; None, noted, where they cannot be used. A recording none of whose labels can be used is refused."""
        try:
            image: Any = self._bag.deserialize(message)
            compressed = message.type == COMPRESSED_IMAGE
            labels = compressed_label_message_to_ids(image) if compressed else label_message_to_ids(image)
            if labels.shape != rgb.shape[:2]:
                raise ImageError(
                    f"has images of {labels.shape[1]}x{labels.shape[0]} pixels, image topic {self._image_topic.name} of "
                    f"{rgb.shape[1]}x{rgb.shape[0]}; labels must have the image's size"
                )
        except (MessageError, ImageError) as error:
            says = f" {error}" if str(error).startswith("has images of") else f": {error}"
            problem = f"label topic {message.topic}{says} (bag {self._bag.path}, at {_seconds(message.time_ns)})"
            if not self.label_problems:
                self._first_label_problem = problem
                logger.warning("%s; the image is taken without labels", problem)
            self.label_problems["damaged message" if isinstance(error, MessageError) else str(error)] += 1
            if not self._any_label_used and self.label_problems.total() >= _GIVE_UP_AFTER:
                raise BagError(f"no label can be used; the first: {problem}") from error
            return None
        self._any_label_used = True
        return labels

    def _drop(self, message: BagMessage, error: MessageError | ImageError) -> None:
        kind = "damaged message" if isinstance(error, MessageError) else str(error)
        if kind not in self.drop_reasons:
            logger.warning("topic %s: an image is left out: %s", message.topic, error)
        self.drop_reasons[kind] += 1
        if not self._any_decoded and self.drop_reasons.total() >= _GIVE_UP_AFTER:
            self._give_up()

    def _give_up(self) -> None:
        reason, _ = self.drop_reasons.most_common(1)[0]
        raise BagError(f"none of the first {self.frames_in} images on {self._image_topic.name} can be used: {reason}")

    def _paired_stamps(self) -> set[int]:
        """Stamps that images and labels have in common."""
        if self._label_topic is None:
            return set()
        stamps: dict[str, Counter[int]] = {self._image_topic.name: Counter(), self._label_topic.name: Counter()}
        for message in self._bag.messages(list(stamps)):
            stamp_ns = header_stamp_ns(message)
            if stamp_ns is not None:
                stamps[message.topic][stamp_ns] += 1
        images, labels = stamps.values()
        common = images.keys() & labels.keys()
        if not common:
            raise BagError(
                f"no label on {self._label_topic.name} ({_first(labels)}) has the header stamp of an image on "
                f"{self._image_topic.name} ({_first(images)}); labels are paired with images by their stamps"
            )
        for name, counts in stamps.items():
            repeated = [stamp_ns for stamp_ns in common if counts[stamp_ns] > 1]
            if repeated:
                raise BagError(
                    f"topic {name} has {counts[repeated[0]]} messages with the header stamp {_seconds(repeated[0])}; "
                    "labels are paired with images by their stamps, so each must occur once"
                )
        return common


def find_image_topic(bag: BagReader, label_topic: str | None = None) -> str:
    """The one topic of a recording that has camera images.

    Raises:
        BagError: there is none, or more than one.
    """
    topics = [topic for topic in bag.topics().values() if topic.type in IMAGE_TYPES and topic.name != label_topic]
    if len(topics) == 1:
        return topics[0].name
    if not topics:
        have = "; ".join(str(topic) for topic in bag.topics().values()) or "none"
        raise BagError(f"bag {bag.path} has no image topic; it has: {have}")
    raise BagError(
        f"bag {bag.path} has {len(topics)} image topics: {', '.join(topic.name for topic in topics)}; "
        "say which with --image-topic"
    )


def prefetch(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """The same items, made ahead by a thread of their own; at most `depth` wait. Errors come out where they occurred."""
    waiting: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[Item | None, BaseException | None]) -> None:
        while not stop.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put((item, None))
                if stop.is_set():
                    return
            put((None, StopIteration()))
        except Exception as error:
            put((None, error))

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # an entry without an error has its item
    finally:
        stop.set()
        thread.join()


def header_stamp_ns(message: BagMessage) -> int | None:
    """The header's stamp, which both image types begin with, without decoding the rest; None where it is missing."""
    data = message.data
    if len(data) < 12:
        return None
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return seconds * 10**9 + nanoseconds


def _first(stamps: Counter[int]) -> str:
    return f"{stamps.total()} messages, the first at {_seconds(min(stamps))}" if stamps else "no messages"


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns // 10**9}.{stamp_ns % 10**9:09d} s"
