"""Masks and depth of a camera, as they come, made into labelled clouds. No ROS in here."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import cv2
import numpy as np

from seg_perception.cdr import Header, read_header, read_image
from seg_perception.cdr_camera_info import read_intrinsics
from seg_perception.cdr_cloud import read_cloud, write_cloud
from seg_perception.cloud import CloudError, DepthProjector, Intrinsics, label_cloud
from seg_perception.depth import depth_pixels
from seg_perception.stamp_pairing import StampPairing

SILENT_S = 5.0  # without a pair although both come, before that is a problem


@dataclass(frozen=True)
class MaskedImage:
    """A camera image with its masks, which nobody changes any more.

    Attributes:
        header: of the image.
        rgb: uint8 [H, W, 3].
        labels, confidence: uint8, of one size, which may be another than the image's.
    """

    header: Header
    rgb: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray


class Geometry(Protocol):
    """What gives the pixels their place in space: depth with calibration, or an organised cloud."""

    name: str

    def stamp_ns(self, serialized: bytes) -> int:
        """Of one of its messages. Raises CdrError where it is none."""

    def points(self, serialized: bytes, rgb: np.ndarray, labels: np.ndarray, confidence: np.ndarray) -> bytes:
        """A serialized sensor_msgs/PointCloud2. Raises CdrError, CloudError."""


class DepthGeometry:
    """Depth images (sensor_msgs/Image, 16UC1 mm or 32FC1 m), registered to the camera, and the CameraInfo.

    Args:
        keep_invalid: see `DepthProjector`.
    """

    name = "depth image"

    def __init__(self, keep_invalid: bool) -> None:
        self._keep_invalid = keep_invalid
        self._projector = DepthProjector(keep_invalid)
        self._camera_info: bytes | None = None
        self._read: bytes | None = None
        self._intrinsics: Intrinsics | None = None

    def camera_info_came(self, serialized: bytes) -> None:
        """A sensor_msgs/CameraInfo; it is read when it is needed."""
        self._camera_info = serialized

    def stamp_ns(self, serialized: bytes) -> int:
        return read_image(serialized).header.stamp_ns

    def points(self, serialized: bytes, rgb: np.ndarray, labels: np.ndarray, confidence: np.ndarray) -> bytes:
        image = read_image(serialized)
        points = self._projector.points(depth_pixels(image), self._present_intrinsics(), rgb, labels, confidence)
        return write_cloud(image.header, points, is_dense=not self._keep_invalid)

    def _present_intrinsics(self) -> Intrinsics:
        present = self._camera_info
        if present is None:
            raise CloudError("depth comes, but no camera_info: nothing tells where its pixels are in space")
        if self._intrinsics is None or present is not self._read:
            self._intrinsics, self._read = read_intrinsics(present), present
        return self._intrinsics


class CloudGeometry:
    """Organised clouds (sensor_msgs/PointCloud2) whose points lie on the camera's pixels.

    Args:
        keep_invalid: see `label_cloud`.
    """

    name = "cloud"

    def __init__(self, keep_invalid: bool) -> None:
        self._keep_invalid = keep_invalid

    def stamp_ns(self, serialized: bytes) -> int:
        return read_header(serialized, "sensor_msgs/PointCloud2").stamp_ns

    def points(self, serialized: bytes, rgb: np.ndarray, labels: np.ndarray, confidence: np.ndarray) -> bytes:
        cloud = read_cloud(serialized)
        points = label_cloud(cloud.xyz, rgb, labels, confidence, self._keep_invalid)
        return write_cloud(cloud.header, points, is_dense=not self._keep_invalid)


class PointMaker:
    """Pairs masks and depth by time, and makes a cloud of each pair. One thread at a time may use it.

    Args:
        geometry: where the pixels are.
        max_gap_s: between the stamps of a pair.
    """

    def __init__(self, geometry: Geometry, max_gap_s: float) -> None:
        self._geometry = geometry
        self._max_gap_s = max_gap_s
        self._pairs: StampPairing[MaskedImage, bytes] = StampPairing()
        self._newest_ns: dict[str, int] = {}
        self._waiting_since_s: float | None = None

    def add_masks(self, masked: MaskedImage) -> None:
        """Masks of an image came."""
        self._newest_ns["image"] = masked.header.stamp_ns
        self._pairs.add_first(masked.header.stamp_ns, masked)

    def add_geometry(self, serialized: bytes) -> None:
        """Depth, or a cloud, came. Raises CdrError where it is none."""
        stamp_ns = self._geometry.stamp_ns(serialized)
        self._newest_ns[self._geometry.name] = stamp_ns
        self._pairs.add_second(stamp_ns, serialized)

    def make(self) -> bytes | None:
        """A serialized sensor_msgs/PointCloud2 of the next pair, stamped and framed as the depth; None: there is none yet.

        Raises:
            CdrError, CloudError: a pair that cannot become points; it is let go.
        """
        pair = self._pairs.take(self._max_gap_s)
        if pair is None:
            return None
        self._waiting_since_s = None
        masked, serialized = pair
        size = masked.rgb.shape[:2]
        labels, confidence = (_at_size(mask, size) for mask in (masked.labels, masked.confidence))
        return self._geometry.points(serialized, masked.rgb, labels, confidence)

    def problem(self, now_s: float | None = None) -> str:
        """Why nothing is paired, in one line; empty while that is not known. To be asked now and then.

        Args:
            now_s: seconds that never go back; None: `monotonic`.
        """
        now_s = monotonic() if now_s is None else now_s
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
            self._newest_ns = {}
            return ""
        if now_s - self._waiting_since_s < SILENT_S or "image" not in self._newest_ns:
            return ""
        name = self._geometry.name
        if name not in self._newest_ns:
            return f"no {name} came for {now_s - self._waiting_since_s:.0f} s"
        apart_s = (self._newest_ns[name] - self._newest_ns["image"]) / 1e9
        return (
            f"no {name} within {self._max_gap_s:g} s of an image for {now_s - self._waiting_since_s:.0f} s (the newest is "
            f"stamped {apart_s:+.3f} s from the newest image): stamp both by one clock, or raise points_max_gap_s"
        )


def _at_size(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Ids [h, w] at `size` (H, W): of the nearest pixel centre."""
    if mask.shape == size:
        return mask
    return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
