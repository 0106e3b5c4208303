"""Gives each image the depth image that was taken with it."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from seg_perception.cloud import CloudError, Intrinsics
from seg_perception.depth import depth_pixels
from seg_perception.view.picture import Depth, SourceError

WITHIN_NS = 50_000_000  # two that are further apart were not taken together
_KEPT = 8  # depth images that may wait for their image


class DepthPairing:
    """Keeps the newest depth images and the camera's calibration. One thread may add while another asks."""

    def __init__(self) -> None:
        self._depths: deque[tuple[int, np.ndarray]] = deque(maxlen=_KEPT)
        self._intrinsics: Intrinsics | None = None

    def add_depth(self, message: Any) -> None:
        """A sensor_msgs/Image with depth. Raises SourceError where it is none."""
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        try:
            pixels = depth_pixels(message)
        except CloudError as error:
            raise SourceError(str(error)) from error
        self._depths.append((stamp_ns, pixels.copy()))  # it may share the message's memory

    def add_camera_info(self, message: Any) -> None:
        """A sensor_msgs/CameraInfo. Raises SourceError where it holds no calibration."""
        k = message.k
        try:
            self._intrinsics = Intrinsics(k[0], k[4], k[2], k[5], (message.height, message.width))
        except CloudError as error:
            raise SourceError(str(error)) from error

    def depth_at(self, stamp_ns: int) -> Depth | None:
        """The depth nearest to an image's stamp; None where there is none within WITHIN_NS, or no calibration yet."""
        depths = list(self._depths)
        if self._intrinsics is None or not depths:
            return None
        nearest_ns, metric = min(depths, key=lambda entry: abs(entry[0] - stamp_ns))
        return Depth(metric, self._intrinsics) if abs(nearest_ns - stamp_ns) <= WITHIN_NS else None

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the depth image that came last."""
        return self._depths[-1][0] if self._depths else None
