"""Listens to a node's masks and to what it says of itself."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

_DEPTH = 100  # masks that may wait while this process is held up; none is to be lost here


class MaskListener:
    """Subscribes to the node's outputs and notes when each one came.

    Attributes:
        labels: uint8 [H, W] masks by header stamp; superpixels: uint16 [H, W].
        arrivals_s: when the labels came, perf_counter seconds, by header stamp.
        status: the node's latest diagnostics, None before the first.
    """

    def __init__(self, node: Node, segmentation: str, want_superpixels: bool) -> None:
        self.labels: dict[int, np.ndarray] = {}
        self.superpixels: dict[int, np.ndarray] = {}
        self.arrivals_s: dict[int, float] = {}
        self.status: DiagnosticStatus | None = None
        self._name = segmentation
        qos = QoSProfile(depth=_DEPTH)
        self.subscriptions = [node.create_subscription(Image, f"{segmentation}/labels", self._on_labels, qos)]
        if want_superpixels:
            topic = f"{segmentation}/superpixels"
            self.subscriptions.append(node.create_subscription(Image, topic, self._on_superpixels, qos))
        self._diagnostics = node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    @property
    def values(self) -> dict[str, str]:
        """Key and value pairs of the latest diagnostics."""
        return {} if self.status is None else {pair.key: pair.value for pair in self.status.values}

    def _on_labels(self, message: Image) -> None:
        now_s = perf_counter()
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        self.labels[stamp_ns] = _pixels(message, np.uint8)
        self.arrivals_s[stamp_ns] = now_s

    def _on_superpixels(self, message: Image) -> None:
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        self.superpixels[stamp_ns] = _pixels(message, np.uint16)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._name:
                self.status = status


def _pixels(message: Image, dtype: type[np.unsignedinteger[Any]]) -> np.ndarray:
    """[H, W] array of a mask message, rows possibly padded."""
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    return rows[:, : message.width * np.dtype(dtype).itemsize].copy().view(dtype)
