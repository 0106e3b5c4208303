"""The node on libraries that hang or fail when told to, and a camera that sees how it takes it; see troubled_node.py."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from test.seg_perception.node_process import START_S, Camera, NodeProcess, pixels
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels
from test.seg_perception.waiting import wait_until

PICTURE = np.random.default_rng(0).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)
HANG_S = 2.0  # the node's hang_timeout_s here
EXIT_S = 6.0  # 2 s, and what a starved machine takes


class TroubledProcess(NodeProcess):
    """The node on libraries that obey `trouble`; see troubled_node.py."""

    module = "test.seg_perception.ros.troubled_node"

    def __init__(self, environment: dict[str, str], trouble: Path, name: str, at_start: str, **parameters: Any) -> None:
        self.trouble = trouble
        self.make(at_start)
        values: dict[str, Any] = {
            "engine": "onnxruntime",
            "hang_timeout_s": HANG_S,
            "stale_after_s": 0.5,
            "diagnostics_period_s": 0.2,
            **parameters,
        }
        super().__init__({**environment, "TROUBLE": str(trouble)}, name, **values)

    def make(self, what: str) -> None:
        """Make trouble from now on; an empty text ends it."""
        written = self.trouble.with_suffix(".new")
        written.write_text(what)
        written.replace(self.trouble)  # at once: an empty file would end the trouble before


def connected(ros_node: Any, name: str) -> Camera:
    camera = Camera(ros_node, f"/{name}/image", name)
    camera.connect()
    return camera


def assert_serves(camera: Camera) -> None:
    np.testing.assert_array_equal(pixels(camera.ask(PICTURE)), tiny_labels(PICTURE))


def serve_again(camera: Camera) -> None:
    """Publish as a camera does until masks come again, and look at one of them."""
    count = len(camera.received["labels"])

    def came() -> bool:
        camera.publish(PICTURE)
        time.sleep(0.1)
        return len(camera.received["labels"]) > count

    wait_until(came, START_S, "a mask after the trouble")
    assert_serves(camera)


def compressed_camera(ros_node: Any, name: str) -> Callable[[], bool]:
    """Of a node with image_type compressed: publishes an image, and says whether a mask came."""
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CompressedImage, Image

    publisher = ros_node.create_publisher(CompressedImage, f"/{name}/image", qos_profile_sensor_data)
    labels: list[Any] = []
    ros_node.create_subscription(Image, f"/{name}/labels", labels.append, 10)
    png = cv2.imencode(".png", cv2.cvtColor(PICTURE, cv2.COLOR_RGB2BGR))[1].tobytes()

    def served() -> bool:
        count = len(labels)
        publisher.publish(CompressedImage(format="png", data=png))
        time.sleep(0.1)
        return len(labels) > count

    wait_until(served, START_S, "a first mask")
    return served


def end(process: TroubledProcess, code: int = 0) -> None:
    start = time.monotonic()
    assert process.stop(signal.SIGTERM) == code, process.lines[-20:]
    assert time.monotonic() - start < EXIT_S
    assert not [line for line in process.lines if "Traceback" in line or "unexpected" in line]
