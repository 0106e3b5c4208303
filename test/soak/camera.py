"""A camera driver that can be made to misbehave: a thread that publishes pictures at a rate and tells the checks of each."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from seg_perception.cdr import Header, write_image
from test.seg_perception.cdr_bytes import Bytes
from test.soak.checks import MaskChecks, Sent
from test.soak.pictures import Album, Picture

PICTURE_S = 1.0  # how long a picture is shown
ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8", "mono8")
# Nothing is known of the classes of a picture without its colours.
_COLOURLESS = "mono8"
_BROKEN = ("cut", "step", "absurd", "encoding")
_BROKEN_PICTURES = ("cut", "empty", "no picture", "bomb")


@dataclass
class Manner:
    """How a camera behaves just now; the faults change it.

    Attributes:
        rate_hz: images a second.
        stopped: none at all.
        size: (height, width).
        encoding: of raw images.
        frame_id: of the headers.
        offset_ns: of the stamps from the clock.
        unstamped: stamps are zero; the frame_id tells images apart.
        broken: how the images are broken; empty: they are whole.
    """

    rate_hz: float
    size: tuple[int, int]
    frame_id: str
    stopped: bool = False
    encoding: str = "rgb8"
    offset_ns: int = 0
    unstamped: bool = False
    broken: str = ""


class SimulatedCamera:
    """Publishes until it is closed.

    Args:
        node: of rclpy.
        topic: of the images; compressed where it ends in /compressed.
        album: what it sees.
        checks: are told of every image.
        rate_hz: images a second.
        frame_id: of its headers.
    """

    _sources = 0

    def __init__(self, node: Any, topic: str, album: Album, checks: MaskChecks, rate_hz: float, frame_id: str) -> None:
        self.topic = topic
        self.album = album
        self.is_compressed = topic.endswith("/compressed")
        self.manner = Manner(rate_hz, album.sizes[0], frame_id)
        self._node, self._checks = node, checks
        self._lock = threading.Lock()  # publisher and source belong together
        self._publisher: Any = None
        self._source = self._number = 0
        self._last_ns = 0
        self._encoded: dict[tuple[int, tuple[int, int]], bytes] = {}
        self._done = threading.Event()
        self.connect()
        self._thread = threading.Thread(target=self._run, name=f"camera {topic}", daemon=True)
        self._thread.start()

    def connect(self) -> None:
        """Begin as a driver does that has just been started."""
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import CompressedImage, Image

        kind = CompressedImage if self.is_compressed else Image
        with self._lock:
            self._publisher = self._node.create_publisher(kind, self.topic, qos_profile_sensor_data)
            SimulatedCamera._sources += 1
            self._source, self._number = SimulatedCamera._sources, 0

    def disconnect(self) -> None:
        """End as a driver does that crashes: its topic has no publisher any more."""
        with self._lock:
            self._node.destroy_publisher(self._publisher)
            self._publisher = None

    def close(self) -> None:
        """End the thread and the publisher."""
        self._done.set()
        self._thread.join()
        self.disconnect()

    def broken_ways(self) -> tuple[str, ...]:
        """How this camera's images can be broken."""
        return _BROKEN_PICTURES if self.is_compressed else _BROKEN

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._done.is_set():
            if not self.manner.stopped:
                with self._lock:
                    if self._publisher is not None:
                        self._publish()
            due_s = max(
                due_s + 1 / self.manner.rate_hz, time.monotonic() - 1.0
            )  # no burst after a pause of the process
            self._done.wait(max(0.0, due_s - time.monotonic()))

    def _publish(self) -> None:
        manner = self.manner
        now_s, now_ns = time.monotonic(), time.time_ns()
        number = int(now_s / PICTURE_S) % len(self.album.by_size[manner.size])
        picture = self.album.by_size[manner.size][number]
        self._number += 1
        header = self._header(manner, now_ns)
        known = None if manner.encoding == _COLOURLESS else picture.labels
        # What looks like a picture to its decoder has a mask, though nobody can say what is on it.
        sent = Sent(self._source, self._number, now_s, manner.size, known, usable=not manner.broken)
        self._checks.sent(header, sent)
        compressed = self._compressed(header, manner, picture, number) if self.is_compressed else b""
        self._publisher.publish(compressed or _raw(header, manner, picture))

    def _header(self, manner: Manner, now_ns: int) -> Header:
        if manner.unstamped:
            return Header(0, 0, f"{manner.frame_id}_{self._source}_{self._number}".encode())
        stamp_ns = now_ns + manner.offset_ns
        if stamp_ns == self._last_ns:
            stamp_ns += 1
        self._last_ns = stamp_ns
        return Header(*divmod(stamp_ns, 10**9), manner.frame_id.encode())

    def _compressed(self, header: Header, manner: Manner, picture: Picture, number: int) -> bytes:
        key = (number, manner.size)
        if key not in self._encoded:
            # Without loss where that is small; a camera's JPEG for what a camera sees.
            kind, options = (".png", []) if picture.rgb.shape[0] < 200 else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95])
            self._encoded[key] = cv2.imencode(kind, picture.rgb[..., ::-1], options)[1].tobytes()
        data = self._encoded[key]
        if manner.broken == "cut":
            data = data[:40]
        elif manner.broken == "empty":
            data = b""
        elif manner.broken == "no picture":
            data = b"\xff\xd8\xff\xd9 no picture"
        elif manner.broken == "bomb":  # 30000x30000 pixels, says its head
            data = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + 2 * (30_000).to_bytes(4, "big") + b"\x08\x02\0\0\0" + bytes(40)
        message = _message(header)
        message.string(b"jpeg" if data[:2] == b"\xff\xd8" else b"png")
        message.sequence(data)
        return message.message()


def _raw(header: Header, manner: Manner, picture: Picture) -> bytes:
    rgb = picture.rgb
    encoding = manner.encoding
    pixels = {
        "rgb8": lambda: rgb,
        "bgr8": lambda: rgb[..., ::-1],
        "rgba8": lambda: cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA),
        "bgra8": lambda: cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA),
        "mono8": lambda: cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY),
    }[encoding]()
    if not manner.broken:
        return write_image(header, encoding, pixels)
    if manner.broken == "cut":
        return write_image(header, encoding, pixels)[:-500]
    height, width = rgb.shape[:2]
    step, data = 3 * width, np.ascontiguousarray(rgb).tobytes()
    if manner.broken == "step":
        step = width
    elif manner.broken == "absurd":
        height, width, step, data = 2**31, 2**31, 2**32 - 1, b"few"
    message = _message(header)
    message.number("I", height)
    message.number("I", width)
    message.string(b"no_such_encoding" if manner.broken == "encoding" else b"rgb8")
    message.number("B", 0)
    message.number("I", step)
    message.sequence(data)
    return message.message()


def _message(header: Header) -> Bytes:
    message = Bytes("<")
    message.number("i", header.sec)
    message.number("I", header.nanosec)
    message.string(header.frame_id)
    return message
