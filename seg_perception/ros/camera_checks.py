"""What of a camera's parameters does not go together, told before anything is made of them. No ROS in here."""

from __future__ import annotations

from collections.abc import Callable

from seg_perception.ros.parameter_values import CameraParameters

# Topics by the naming of image_transport whose messages are none that are read here.
OTHER_TRANSPORTS = ("compressedDepth", "ffmpeg", "theora", "zstd")


def check_camera(values: CameraParameters, name: Callable[[str], str]) -> None:
    """Check what the declarations of single parameters cannot say.

    Args:
        values: of the camera.
        name: of one of its parameters on the node, by its plain one.

    Raises:
        ValueError: in one line.
    """
    _check_image(values, name)
    _check_points(values, name)


def _check_image(values: CameraParameters, name: Callable[[str], str]) -> None:
    if not values.image:
        raise ValueError(f"parameter {name('image')} is empty, expected the topic of the camera images")
    base, _, transport = values.image.rpartition("/")
    if values.image_type == "auto" and transport in OTHER_TRANSPORTS:
        raise ValueError(
            f"parameter {name('image')} is {values.image!r}, a topic of image_transport's {transport}, expected one of raw or "
            f"compressed images such as {base} or {base}/compressed; if it is such a one, set {name('image_type')}"
        )


def _check_points(values: CameraParameters, name: Callable[[str], str]) -> None:
    if values.depth and values.cloud:
        raise ValueError(
            f"parameters {name('depth')} and {name('cloud')} are both set, expected one of them: points come of either"
        )
    if values.depth and not values.calibration:
        raise ValueError(
            f"parameter {name('depth')} is set, but neither {name('depth_camera_info')} nor {name('camera_info')}; expected "
            "the topic of the calibration that belongs to the depth"
        )
