"""The real node in a process of its own, and a camera and listener that talk to it over DDS."""

from __future__ import annotations

import array
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from test.seg_perception.waiting import wait_until

START_S = 60.0  # a machine busy with other tests starts a Python process with ROS slowly
ANSWER_S = 30.0


class NodeProcess:
    """`python -m seg_perception.ros.node` with parameters; its log is collected line by line.

    Args:
        environment: of the process.
        name: of the node.
        ros_arguments: after --ros-args.
        prefix: a command that becomes the one that follows it.
        parameters: of the node.
    """

    module = "seg_perception.ros.node"

    def __init__(
        self,
        environment: dict[str, str],
        name: str = "segmentation",
        ros_arguments: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        **parameters: Any,
    ) -> None:
        self.name = name
        arguments = ["--ros-args", "-r", f"__node:={name}", *ros_arguments]
        for name, value in parameters.items():
            text = str(value).lower() if isinstance(value, bool) else f"'{value}'" if value == "" else str(value)
            arguments += ["-p", f"{name}:={text}"]
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", self.module, *arguments],
            env=environment,
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, text: str, count: int = 1, timeout_s: float = START_S) -> str:
        """The last of `count` log lines that hold `text`."""

        def found() -> list[str]:
            return [line for line in self.lines if text in line]

        def enough() -> bool:
            assert self.alive or len(found()) >= count, f"the node ended before {text!r}: {self.lines[-20:]}"
            return len(found()) >= count

        wait_until(enough, timeout_s, f"{text!r} in the node's log {self.lines[-5:]}")
        return found()[-1]

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def stop(self, by: signal.Signals = signal.SIGINT) -> int:
        """Ask it to end, as Ctrl-C does if not told otherwise; returns its exit code."""
        self.process.send_signal(by)
        try:
            return self.process.wait(timeout=ANSWER_S)
        finally:
            if self.alive:
                self.process.kill()
            self._reader.join(timeout=5)


class Camera:
    """Publishes images on a topic and collects what the node answers.

    Args:
        node: a spinning rclpy node.
        topic: of the images.
        name: of the segmentation node.
        outputs: names of the node's outputs to listen to.
    """

    def __init__(
        self, node: Any, topic: str, name: str = "segmentation", outputs: tuple[str, ...] = ("labels",)
    ) -> None:
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import Image

        self.node = node
        self.name = name
        self.publisher = node.create_publisher(Image, topic, qos_profile_sensor_data)
        self.received: dict[str, list[Any]] = defaultdict(list)
        self.subscriptions = {name: self._listen(name, Image) for name in outputs}
        self.count = 0

    def _listen(self, name: str, kind: Any) -> Any:
        return self.node.create_subscription(kind, f"/{self.name}/{name}", self.received[name].append, 10)

    def connect(self) -> None:
        """Wait until the node listens and its outputs are heard; also once it was reactivated and listens anew."""
        wait_until(lambda: self.publisher.get_subscription_count() > 0, START_S, "the node's image subscription")
        for name, subscription in self.subscriptions.items():
            wait_until(
                lambda s=subscription: self.node.count_publishers(s.topic_name) > 0, START_S, f"a publisher of {name}"
            )
        # Both ends know of each other only a little later; images until then may go unanswered.
        before = {name: len(self.received[name]) for name in self.subscriptions}
        wait_until(lambda: self._answers(before), START_S, "a first answer")

    def connect_again(self) -> None:
        """As `connect`, for one that was connected to outputs that may have gone and come since."""
        for received in self.received.values():
            received.clear()
        self.connect()

    def _answers(self, before: dict[str, int]) -> bool:
        self.publish(np.zeros((24, 32, 3), np.uint8), stamp=(0, 0))
        try:
            wait_until(lambda: all(len(self.received[name]) > count for name, count in before.items()), 0.3, "")
        except AssertionError:
            return False
        return True

    def message(self, rgb: np.ndarray, stamp: tuple[int, int] | None = None) -> Any:
        """A raw image message; each one gets a stamp of its own."""
        from sensor_msgs.msg import Image

        self.count += 1
        message = Image(height=rgb.shape[0], width=rgb.shape[1], encoding="rgb8", step=3 * rgb.shape[1])
        message.header.frame_id = "camera_optical_frame"
        message.header.stamp.sec, message.header.stamp.nanosec = stamp or (1000, self.count)
        message.data = array.array("B", rgb.tobytes())  # rclpy checks every element of anything else
        return message

    def publish(self, rgb: np.ndarray, stamp: tuple[int, int] | None = None) -> Any:
        """Publish an image; returns its message."""
        message = self.message(rgb, stamp)
        self.publisher.publish(message)
        return message

    def answer(self, message: Any, name: str = "labels") -> Any:
        """The answer to one message, by its stamp."""
        hits: list[Any] = []

        def arrived() -> bool:
            hits[:] = [m for m in list(self.received[name]) if m.header.stamp == message.header.stamp]
            return bool(hits)

        wait_until(arrived, ANSWER_S, f"{name} of the image with stamp {message.header.stamp}")
        return hits[0]

    def ask(self, rgb: np.ndarray, name: str = "labels") -> Any:
        """Publish an image and wait for one of its answers."""
        return self.answer(self.publish(rgb), name)


def pixels(message: Any) -> np.ndarray:
    """The array in an image message of the node."""
    dtype = np.uint16 if message.encoding == "16UC1" else np.uint8
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width, -1).squeeze(-1)
