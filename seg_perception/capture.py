"""The last seconds of what a node took in and gave out, kept in memory and written as a recording when asked. No ROS in here.

`CaptureBuffer` holds the serialized messages themselves, the very objects that came over DDS or went out: nothing is copied.
`CaptureWriter` writes them in a thread of its own as one MCAP file that `ros2 bag`, Foxglove and `seg_perception evaluate-bag`
open; frames go on meanwhile.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

logger = logging.getLogger(__name__)

LEAVE_FREE_BYTES = 200_000_000  # of the disk: a capture must not be what fills it
_OVERHEAD_BYTES = 200  # of a message in the buffer beside its bytes
_NICENESS = 10  # of the writing thread: masks come first
_FORGOTTEN_AFTER_S = 3600.0  # an unfinished file that a killed process left
# vision_msgs 4.1; the type store of the bag library has what comes with ROS itself.
_VISION_MSGS = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    "vision_msgs/msg/LabelInfo": "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n",
}


class CaptureError(RuntimeError):
    """Nothing can be saved now. One line: why, and what to do."""


@dataclass(frozen=True)
class Channel:
    """A topic whose messages are kept.

    Attributes:
        topic: resolved name.
        type: such as "sensor_msgs/msg/Image".
        reliable: as its publisher offers; otherwise best effort.
        latched: late subscribers get the last message too. Here it is kept however old it is.
    """

    topic: str
    type: str
    reliable: bool = True
    latched: bool = False


@dataclass(frozen=True)
class CapturedMessage:
    """A message and when it passed, nanoseconds of the system's clock (which is taken once, so that it never goes back)."""

    channel: Channel
    time_ns: int
    data: bytes


class CaptureBuffer:
    """The newest messages, bounded in bytes and in seconds. Thread-safe.

    Args:
        max_bytes: of all messages together; 0: off, nothing is kept.
        max_s: age of the oldest, seconds.
        now_ns: a clock that never goes back.
    """

    def __init__(self, max_bytes: int, max_s: float, now_ns: Callable[[], int] | None = None) -> None:
        start_ns = time.time_ns() - time.monotonic_ns()
        self._now_ns = now_ns or (lambda: start_ns + time.monotonic_ns())
        self._lock = threading.Lock()
        self._messages: deque[CapturedMessage] = deque()
        self._latched: dict[Channel, CapturedMessage] = {}
        self._bytes = 0
        self.enabled = False
        self.limit(max_bytes, max_s)

    def limit(self, max_bytes: int, max_s: float) -> None:
        """Change the bounds; what is above them is forgotten at once.

        Raises:
            ValueError: a bound is negative.
        """
        if max_bytes < 0 or max_s < 0:
            raise ValueError(f"a capture of {max_bytes} bytes and {max_s} s, expected both to be at least 0")
        with self._lock:
            self._max_bytes, self._max_ns = max_bytes, round(1e9 * max_s)
            self.enabled = max_bytes > 0
            if not self.enabled:
                self._messages.clear()
                self._bytes = 0
            self._forget(self._now_ns())

    def add(self, channel: Channel, data: bytes) -> None:
        """Keep a serialized message; where the buffer is off, only what is latched."""
        if not self.enabled and not channel.latched:
            return
        with self._lock:
            message = CapturedMessage(channel, self._now_ns(), data)
            if channel.latched:
                self._latched[channel] = message
                return
            self._messages.append(message)
            self._bytes += len(data) + _OVERHEAD_BYTES
            self._forget(message.time_ns)

    @property
    def size_bytes(self) -> int:
        """What the messages take, of the latched ones apart."""
        return self._bytes

    def messages(self) -> list[CapturedMessage]:
        """What is kept now, oldest first. Latched ones lead and are dated as the first that follows."""
        with self._lock:
            kept = list(self._messages)
            if not kept:
                return []
            return [CapturedMessage(m.channel, kept[0].time_ns, m.data) for m in self._latched.values()] + kept

    def _forget(self, now_ns: int) -> None:
        messages = self._messages
        while messages and (self._bytes > self._max_bytes or now_ns - messages[0].time_ns > self._max_ns):
            self._bytes -= len(messages.popleft().data) + _OVERHEAD_BYTES


class CaptureWriter:
    """Writes what a buffer holds, one file at a time, in a thread of its own.

    Args:
        buffer: what to save.
        name: first part of the files' names.
    """

    def __init__(self, buffer: CaptureBuffer, name: str) -> None:
        self._buffer = buffer
        self._name = name
        self._busy = threading.Lock()

    def save(self, folder: Path, done: Callable[[Path | None, str], None], event: str = "", keep: int = 0) -> None:
        """Write the buffer's present content to a new file in `folder`.

        Args:
            folder: made where it is missing.
            done: called from the writing thread with the file's path, or None, and with one line on what was saved or
                why it was not.
            event: last part of the file's name, for files that nobody asked for.
            keep: with an event: so many of this event's newest files stay, older ones are deleted; 0: all stay.

        Raises:
            CaptureError: nothing is kept, or another file is being written.
        """
        if not self._buffer.enabled:
            raise CaptureError("nothing is kept: set the parameter capture_mb above 0, and save when it has happened")
        if not self._busy.acquire(blocking=False):
            raise CaptureError("another capture is being written; ask again when it is done")
        messages = self._buffer.messages()
        if not messages:
            self._busy.release()
            raise CaptureError("nothing is kept yet: no message has come in since the capture was turned on")

        def write() -> None:
            path, said = None, ""
            try:
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
                path = self._write(messages, folder, event)
                said = f"{path}: {_summary(messages)}"
                if event and keep:
                    self._delete_old(folder, event, keep)
            except (OSError, CaptureError) as error:
                said = f"capture not saved: {_one_line(error)}"
                logger.error("%s", said)
            except Exception as error:  # a broken capture must not cost a frame, nor leave its caller without an answer
                said = f"capture not saved: unexpected {type(error).__name__}: {_one_line(error)}"
                logger.error("%s", said)
            finally:
                self._busy.release()
                done(path, said)

        threading.Thread(target=write, name="capture", daemon=True).start()

    @property
    def busy(self) -> bool:
        """Whether a file is being written."""
        return self._busy.locked()

    def _write(self, messages: Sequence[CapturedMessage], folder: Path, event: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        self._delete_unfinished(folder)
        needed = sum(len(message.data) for message in messages) + LEAVE_FREE_BYTES
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise CaptureError(
                f"{folder} has {free / 1e6:.0f} MB free, expected at least {needed / 1e6:.0f} MB; make room or set capture_folder"
            )
        path = self._new_path(folder, event)
        scratch = folder / f".{path.name}.part"
        scratch.mkdir()
        try:
            write_recording(messages, scratch / path.stem)
            unfinished = scratch / path.stem / path.name
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())  # robots are switched off after what a capture is about
            unfinished.replace(path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return path

    def _new_path(self, folder: Path, event: str) -> Path:
        now = time.time()
        stem = f"{self._name}_{time.strftime('%Y-%m-%dT%H-%M-%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
        suffix = f"_{event}.mcap" if event else ".mcap"
        path, number = folder / f"{stem}{suffix}", 1
        while path.exists():
            number += 1
            path = folder / f"{stem}-{number}{suffix}"
        return path

    def _delete_unfinished(self, folder: Path) -> None:
        for scratch in folder.glob(f".{self._name}_*.part"):
            if time.time() - scratch.stat().st_mtime > _FORGOTTEN_AFTER_S:
                shutil.rmtree(scratch, ignore_errors=True)

    def _delete_old(self, folder: Path, event: str, keep: int) -> None:
        files = sorted(folder.glob(f"{self._name}_*_{event}.mcap"), key=lambda path: path.stat().st_mtime)
        for path in files[:-keep]:
            path.unlink()


def write_recording(messages: Sequence[CapturedMessage], folder: Path) -> None:
    """Write messages as a rosbag2 folder of one MCAP file, `folder`/<its name>.mcap, in chunks packed by zstd.

    The MCAP file describes itself, rosbag2's metadata included, and is read without the folder, too.

    Raises:
        OSError: it cannot be written.
        CaptureError: a message's type is not known.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    for kind, text in _VISION_MSGS.items():
        store.register(get_types_from_msg(text, kind))
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for message in messages:
            channel = message.channel
            if channel not in connections:
                if channel.type not in store.types:
                    raise CaptureError(f"topic {channel.topic} has messages of the unknown type {channel.type}")
                connections[channel] = writer.add_connection(
                    channel.topic, channel.type, typestore=store, offered_qos_profiles=[_offered_qos(channel)]
                )
            writer.write(connections[channel], message.time_ns, message.data)


def _offered_qos(channel: Channel) -> Qos:
    forever = QosTime(9223372036, 854775807)  # as rosbag2 writes "infinite"
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if channel.latched else 5,
        reliability=QosReliability.RELIABLE if channel.reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if channel.latched else QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )


def _summary(messages: Sequence[CapturedMessage]) -> str:
    seconds = 1e-9 * (messages[-1].time_ns - messages[0].time_ns)
    topics = len({message.channel for message in messages})
    return f"{seconds:.1f} s, {len(messages)} messages of {topics} topics"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
