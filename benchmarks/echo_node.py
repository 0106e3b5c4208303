"""A node that does everything but segment: takes an image's bytes, publishes masks of its size at once.

What an image still costs here is the middleware, the executor and rclpy: the part of the latency that no node of this
kind can save.
"""

from __future__ import annotations

import argparse

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from seg_perception.cdr import read_image, write_image
from seg_perception.image_memory import keep_freed_memory


class EchoNode(Node):
    """Answers in the callback.

    Args:
        topic: of images.
    """

    def __init__(self, topic: str) -> None:
        super().__init__("segmentation")
        self.labels = self.create_publisher(Image, "~/labels", 10)
        self.superpixels = self.create_publisher(Image, "~/superpixels", 10)
        self.masks = (np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint16))
        self.create_subscription(Image, topic, self.on_image, qos_profile_sensor_data, raw=True)

    def on_image(self, serialized: bytes) -> None:
        """Masks of the image's size and header."""
        image = read_image(serialized)
        size = (image.height, image.width)
        if self.masks[0].shape != size:
            self.masks = (np.zeros(size, np.uint8), np.zeros(size, np.uint16))
        self.labels.publish(write_image(image.header, "mono8", self.masks[0]))
        self.superpixels.publish(write_image(image.header, "16UC1", self.masks[1]))


def main() -> None:
    """Run until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="/camera/image_raw")
    args = parser.parse_args()
    keep_freed_memory()
    rclpy.init()
    node = EchoNode(args.image)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
