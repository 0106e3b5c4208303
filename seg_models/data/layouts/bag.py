"""Recordings with a topic of labels as training data, read frame by frame where they lie.

root/classes.yaml                 the classes, and image_topic: /camera/image_raw, label_topic: /camera/labels
root/<split>/...                  rosbag2 folders, or lone .mcap and .db3 files

An image and a mask with the same header stamp are a pair. Images are sensor_msgs/Image (rgb8, bgr8, rgba8, bgra8, mono8) or
CompressedImage (JPEG, PNG); masks are Image (mono8, 8UC1) or CompressedImage (PNG), of class ids as in classes.yaml.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from seg_models.data.labels import read_label_table
from seg_models.data.layouts.samples import FolderDataError, Samples, class_ids, classes_from_zero
from seg_models.messages import one_line, shown
from seg_models.yaml_file import read_yaml

LAYOUT = "classes.yaml with image_topic and label_topic, and a folder of recordings for each split"
COLOURS: dict[str, tuple[int, int | None]] = {  # channels, and what makes RGB of them
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
}
STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}
CDR_STAMP = 4  # bytes of the encapsulation; a header's stamp is the first that follows


@dataclass(frozen=True)
class Frame:
    """Where a pair lies: the recording, and when it took each of the two, in ns."""

    recording: int
    image_ns: int
    label_ns: int


class BagSamples(Samples):
    """The pairs of recordings.

    Args:
        root: with classes.yaml.
        split: folder of recordings.

    Raises:
        FolderDataError: no such folder or topic, no pair, or a recording that cannot be read.
        LabelTableError: no classes.yaml, or a wrong one.
    """

    def __init__(self, root: Path, split: str) -> None:
        path = root / "classes.yaml"
        self.table = read_label_table(path)
        content = read_yaml(path)
        self.image_topic, self.label_topic = (str(content.get(key, "")) for key in ("image_topic", "label_topic"))
        if not self.image_topic or not self.label_topic:
            raise FolderDataError(f"{path} names no image_topic and label_topic; expected {LAYOUT}")
        self.recordings = recordings_in(root / split)
        self.readers: dict[tuple[int, int], Reader] = {}  # by process and recording: a fork shares no open file
        self.without_mask = []
        self.masks_alone: list[Path] = []
        self.frames = [frame for index in range(len(self.recordings)) for frame in self._pairs(index)]
        if not self.frames:
            raise FolderDataError(
                f"no image on {self.image_topic} of {root / split} has a mask of the same header stamp on {self.label_topic}"
            )
        self.images = [self._place(frame.recording, self.image_topic, frame.image_ns) for frame in self.frames]
        self.masks = [self._place(frame.recording, self.label_topic, frame.label_ns) for frame in self.frames]

    def __getstate__(self) -> dict[str, Any]:
        """For a process of its own, which opens its own files."""
        return self.__dict__ | {"readers": {}}

    def masks_without_image(self) -> list[Path]:
        """As the base class."""
        return self.masks_alone

    def check_complete(self) -> None:
        """Nothing to refuse: labels at a lower rate than images are usual."""

    def read_image(self, index: int) -> np.ndarray:
        """As the base class."""
        frame, where = self.frames[index], self.images[index]
        return decode_image(self._message(frame, self.image_topic, frame.image_ns), where)

    def read_labels(self, index: int) -> np.ndarray:
        """As the base class."""
        frame, where = self.frames[index], self.masks[index]
        values = decode_mask(self._message(frame, self.label_topic, frame.label_ns), where)
        expected = f"0..{len(self.table.names) - 1} or {self.table.ignore_index}"
        return class_ids(values, classes_from_zero(self.table), expected, where)

    def _place(self, recording: int, topic: str, time_ns: int) -> Path:
        return self.recordings[recording] / topic.strip("/").replace("/", "_") / str(time_ns)

    def _reader(self, recording: int) -> Reader:
        key = (os.getpid(), recording)
        if key not in self.readers:
            reader = Reader(self.recordings[recording])
            try:
                reader.open()
            except Exception as error:  # rosbags' storages fail in ways of their own
                raise FolderDataError(f"{self.recordings[recording]} cannot be read: {one_line(error, 200)}") from error
            self.readers[key] = reader
        return self.readers[key]

    def _connections(self, recording: int, topic: str) -> list[Connection]:
        reader = self._reader(recording)
        found = [connection for connection in reader.connections if connection.topic == topic]
        wrong = [connection.msgtype for connection in found if connection.msgtype not in TYPES]
        if not found or wrong:
            has = ", ".join(sorted({f"{c.topic} ({c.msgtype})" for c in reader.connections})) or "none"
            raise FolderDataError(f"{self.recordings[recording]} has no images on {topic}; its topics: {has}")
        return found

    def _pairs(self, recording: int) -> list[Frame]:
        times: list[dict[int, int]] = []
        for topic in (self.image_topic, self.label_topic):
            connections = self._connections(recording, topic)
            messages = self._reader(recording).messages(connections)
            times.append({stamp_ns(data): time_ns for _, time_ns, data in messages})
        images, labels = times
        for alone, topic, times_ns in (
            (self.without_mask, self.image_topic, [images[stamp] for stamp in images.keys() - labels.keys()]),
            (self.masks_alone, self.label_topic, [labels[stamp] for stamp in labels.keys() - images.keys()]),
        ):
            alone += [self._place(recording, topic, time_ns) for time_ns in sorted(times_ns)]
        return [Frame(recording, images[stamp], labels[stamp]) for stamp in sorted(images.keys() & labels.keys())]

    def _message(self, frame: Frame, topic: str, time_ns: int) -> Any:
        connections = self._connections(frame.recording, topic)
        messages = self._reader(frame.recording).messages(connections, time_ns, time_ns + 1)
        where = self._place(frame.recording, topic, time_ns)
        try:
            connection, _, data = next(messages)
            return STORE.deserialize_cdr(data, connection.msgtype)
        except StopIteration:
            raise FolderDataError(f"{where} is no longer in its recording") from None
        except Exception as error:  # a damaged message can fail in any way
            raise FolderDataError(f"{where} is damaged: {one_line(error, 200)}") from error


def bag_splits(root: Path) -> list[str]:
    """Folders of a root that hold recordings, sorted."""
    return sorted(path.name for path in root.iterdir() if path.is_dir() and _recordings(path)) if root.is_dir() else []


def _recordings(folder: Path) -> list[Path]:
    if (folder / "metadata.yaml").is_file():
        return [folder]
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if (path / "metadata.yaml").is_file() or (path.is_file() and path.suffix in (".mcap", ".db3")):
            found.append(path)
    return found


def recordings_in(folder: Path) -> list[Path]:
    """rosbag2 folders and lone storage files of a folder, or the folder itself if it is one; sorted.

    Raises:
        FolderDataError: there are none.
    """
    found = _recordings(folder)
    if not found:
        raise FolderDataError(f"no recordings in {folder}, rosbag2 folders, .mcap or .db3; expected {LAYOUT}")
    return found


def stamp_ns(data: bytes) -> int:
    """The header's stamp of a serialized Image or CompressedImage, in ns."""
    order = "<" if data[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(f"{order}iI", data, CDR_STAMP)
    return int(seconds * 10**9 + nanoseconds)


def decode_image(message: Any, where: Path) -> np.ndarray:
    """RGB uint8 (H, W, 3) of a message.

    Raises:
        FolderDataError: another encoding, or a damaged picture.
    """
    if not is_raw(message):
        return cv2.cvtColor(_decompressed(message, where, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    if message.encoding not in COLOURS:
        raise FolderDataError(f"{where} is {shown(message.encoding)}; expected one of {', '.join(COLOURS)}")
    channels, conversion = COLOURS[message.encoding]
    pixels = _rows(message, channels, where)
    return pixels.copy() if conversion is None else cv2.cvtColor(pixels, conversion)


def decode_mask(message: Any, where: Path) -> np.ndarray:
    """Values uint8 (H, W) of a message.

    Raises:
        FolderDataError: another encoding, or a damaged picture.
    """
    if is_raw(message):
        if message.encoding not in ("mono8", "8UC1"):
            raise FolderDataError(f"{where} is {shown(message.encoding)}; expected ids as mono8")
        return _rows(message, 1, where)[..., 0]
    values = _decompressed(message, where, cv2.IMREAD_UNCHANGED)
    if values.ndim != 2 or values.dtype != np.uint8 or "png" not in message.format:
        raise FolderDataError(f"{where} is {shown(message.format)}, {values.shape}; expected ids in a grey PNG")
    return values


def is_raw(message: Any) -> bool:
    """Whether it is an Image and no CompressedImage."""
    return str(message.__msgtype__) == "sensor_msgs/msg/Image"


def _rows(message: Any, channels: int, where: Path) -> np.ndarray:
    height, width, step = message.height, message.width, message.step
    if width * channels > step or height * step > len(message.data) or height * width == 0:
        raise FolderDataError(f"{where} has {len(message.data)} bytes, {step} a row; too few for {width} x {height}")
    rows = np.asarray(message.data, np.uint8)[: height * step].reshape(height, step)
    return rows[:, : width * channels].reshape(height, width, channels)


def _decompressed(message: Any, where: Path, flag: int) -> np.ndarray:
    picture = cv2.imdecode(np.asarray(message.data, np.uint8), flag) if len(message.data) else None
    if picture is None:
        raise FolderDataError(f"{where} cannot be decoded, it is damaged")
    return picture
