"""A camera and the listener to its masks, for measurements: everything as bytes, so that it costs the machine little."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from seg_perception.bag.frames import FrameSource
from seg_perception.bag.reader import open_bag
from seg_perception.cdr import Header, read_image, write_image

TOPIC = "/camera/image_raw"
MASKS = ("labels", "superpixels")


def recorded_image(bag: str, size: tuple[int, int]) -> np.ndarray:
    """The first image of a recording, brought to `size` (height, width): uint8 [H, W, 3], RGB."""
    with open_bag(bag) as reader:
        frame = next(iter(FrameSource(reader, "/camera/image_raw/compressed")))
    return cv2.resize(frame.rgb, size[::-1], interpolation=cv2.INTER_CUBIC)


@dataclass
class Stream:
    """What came of images at a steady rate.

    Attributes:
        rate_hz: masks a second, the first half second left out.
        ages_ms: age of each mask as it comes in, in the order of the images.
        arrived_s: when each came, perf_counter.
    """

    rate_hz: float
    ages_ms: np.ndarray
    arrived_s: np.ndarray


class Camera:
    """Publishes one image over and over, each time with another stamp, and notes when its masks are back.

    Args:
        node: a spinning rclpy node.
        rgb: uint8 [H, W, 3].
        topic: of the images.
        outputs: name that the masks' topics begin with.
        status: name of the node's status in its diagnostics; empty: whatever comes.
        masks: outputs that make an answer.
    """

    def __init__(
        self,
        node: Any,
        rgb: np.ndarray,
        topic: str = TOPIC,
        outputs: str = "/segmentation",
        status: str = "",
        masks: tuple[str, ...] = MASKS,
    ) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import Image

        self._node = node
        self._status, self._masks = status, masks
        self._publisher = node.create_publisher(Image, topic, qos_profile_sensor_data)
        self._header = Header(1, 0, b"camera_optical_frame")
        self._message = bytearray(write_image(self._header, "rgb8", rgb))
        self._count = 0
        self._sent: dict[int, float] = {}
        self._arrived: dict[int, dict[str, float]] = {}
        self._news = threading.Condition()
        self.stages: dict[str, str] = {}
        self._subscriptions = [
            node.create_subscription(Image, f"{outputs}/{name}", lambda m, n=name: self._answer(n, m), 10, raw=True)
            for name in masks
        ]
        self._subscriptions.append(node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 10))

    def close(self) -> None:
        """Leave the topics, so that the next one is alone on them."""
        self._node.destroy_publisher(self._publisher)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def stage_ms(self, name: str) -> float:
        """A stage's time as the node tells it in its diagnostics; nan where it does not."""
        return float(self.stages.get(f"stage_{name}_ms", "nan"))

    def connect(self, timeout_s: float = 60.0) -> None:
        """Wait for a node that answers.

        Raises:
            RuntimeError: none does.
        """
        deadline = time.monotonic() + timeout_s
        while self.ask(1.0) is None:
            if time.monotonic() > deadline:
                raise RuntimeError("the node does not answer")

    def ask(self, timeout_s: float = 5.0) -> float | None:
        """Milliseconds from publishing an image until all its masks are here; None if they do not come."""
        key = self._publish()
        with self._news:
            if not self._news.wait_for(lambda: self._done_s(key) is not None, timeout_s):
                return None
        done_s = self._done_s(key)
        assert done_s is not None
        return 1e3 * (done_s - self._sent[key])

    def stream(self, rate_hz: float, seconds: float, stop: threading.Event | None = None) -> Stream:
        """Images at a steady rate, whatever comes back; until `stop` is set, where it is given."""
        first, start = self._count + 1, time.perf_counter()
        while time.perf_counter() < start + seconds and not (stop is not None and stop.is_set()):
            self._publish()
            time.sleep(max(0.0, start + (self._count - first + 1) / rate_hz - time.perf_counter()))
        end = time.perf_counter()
        time.sleep(1.0)
        done = {key: self._done_s(key) for key in range(first, self._count + 1)}
        # The first half second fills queues; what a robot lives with comes after.
        steady = {key: at for key, at in done.items() if at is not None and start + 0.5 <= at <= end}
        ages_ms = np.array([1e3 * (at - self._sent[key]) for key, at in steady.items()])
        return Stream(len(steady) / (end - start - 0.5), ages_ms, np.array(list(steady.values())))

    def _publish(self) -> int:
        self._count += 1
        stamp = write_image(replace(self._header, nanosec=self._count), "rgb8", np.zeros((1, 1, 3), np.uint8))
        self._message[:12] = stamp[:12]  # encapsulation and stamp come first
        message = bytes(self._message)
        self._sent[self._count] = time.perf_counter()
        self._publisher.publish(message)
        return self._count

    def _answer(self, name: str, serialized: bytes) -> None:
        now = time.perf_counter()
        key = read_image(serialized).header.nanosec
        with self._news:
            self._arrived.setdefault(key, {})[name] = now
            self._news.notify_all()

    def _diagnose(self, message: Any) -> None:
        for status in message.status:
            if self._status and status.name != self._status:
                continue
            self.stages = {v.key: v.value for v in status.values}

    def _done_s(self, key: int) -> float | None:
        answers = self._arrived.get(key, {})
        return max(answers.values()) if len(answers) == len(self._masks) else None
