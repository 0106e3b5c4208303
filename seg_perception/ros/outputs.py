"""What the node publishes of a camera's images, and with which quality of service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from seg_perception.cdr import Header, write_image
from seg_perception.classes import ClassMap
from seg_perception.model.model_file import ModelInfo
from seg_perception.ros.capture_service import TappedPublisher

# Masks are small and each one counts; depth lets a slow subscriber lag without blocking the publisher.
OUTPUT_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
POINTS_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)  # 6 MB each at 640x480
LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
OVERRIDABLE = QoSOverridingOptions.with_default_policies()

# Every mask, a sensor_msgs/Image on the topic of this name, and its encoding.
ENCODINGS = {
    "labels": "mono8",
    "confidence": "mono8",
    "superpixels": "16UC1",
    "superpixel_labels": "mono8",
    "foreground": "mono8",
    "overlay": "rgb8",
}


def mask_names(info: ModelInfo, classes: ClassMap) -> list[str]:
    """The masks that there are with a model and its classes."""
    missing = {
        "superpixels": not info.has_superpixels,
        "superpixel_labels": not info.has_superpixels,
        "foreground": not classes.foreground.any(),
    }
    return [name for name in ENCODINGS if not missing.get(name, False)]


@dataclass(frozen=True)
class Outputs:
    """The publishers of one camera's masks, by name."""

    publishers: dict[str, TappedPublisher]

    def wanted(self) -> set[str]:
        """Which masks somebody subscribes to."""
        return {name for name, publisher in self.publishers.items() if publisher.get_subscription_count() > 0}

    def publish(self, name: str, header: Header, pixels: np.ndarray) -> None:
        """Publish one mask.

        Args:
            name: one of ENCODINGS.
            header: of the camera image.
            pixels: as the encoding says: uint8 or uint16 [H, W], uint8 [H, W, 3].
        """
        self.publishers[name].publish(write_image(header, ENCODINGS[name], pixels))

    def changed_to(self, names: list[str], make: Callable[[str], TappedPublisher]) -> Outputs:
        """The outputs of these names: those that are here already, and new ones."""
        return Outputs({name: self.publishers.get(name) or make(name) for name in names})

    def not_in(self, other: Outputs) -> list[TappedPublisher]:
        """Publishers that another one of the camera's outputs has not."""
        return [publisher for publisher in self.publishers.values() if publisher not in other.publishers.values()]
