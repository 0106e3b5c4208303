"""The calibration of masks that have not the camera's size."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CameraInfo, RegionOfInterest


def scaled_camera_info(info: CameraInfo, size: tuple[int, int]) -> CameraInfo:
    """The calibration of a mask that shows what the camera's image shows, at another size.

    Pixel (x, y) of the sensor, counted from the centre of the first one, is at ((x - x0 + 1/2) W / w - 1/2, ...) of a mask of W
    pixels a row where the image shows the w pixels of the sensor from x0 on: `roi`, or the whole where it is empty. So binning
    and region are in the matrices afterwards, and no longer in the fields.

    Args:
        info: of the image. Where it says no size (an uncalibrated camera), its matrices stay as they are.
        size: (H, W) of the mask.

    Returns:
        a new message: `width`, `height`, `k` and `p` of the mask, the rest as it was; distortion and rectification are in
        coordinates that have no pixels.
    """
    roi = info.roi
    width, height = roi.width or info.width, roi.height or info.height
    result = CameraInfo(
        header=info.header, height=size[0], width=size[1], distortion_model=info.distortion_model, d=info.d, r=info.r
    )
    result.k, result.p = info.k, info.p
    result.roi = RegionOfInterest(do_rectify=roi.do_rectify)
    if width == 0 or height == 0:
        return result
    across, down = size[1] / width, size[0] / height
    to_mask = np.array(
        [
            [across, 0.0, (0.5 - roi.x_offset) * across - 0.5],
            [0.0, down, (0.5 - roi.y_offset) * down - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
    result.k = (to_mask @ np.reshape(info.k, (3, 3))).reshape(-1)
    result.p = (to_mask @ np.reshape(info.p, (3, 4))).reshape(-1)
    return result
