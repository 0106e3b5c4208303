"""Depth images as arrays of metric depth."""

from __future__ import annotations

from typing import Any

import numpy as np

from seg_perception.cloud import CloudError

DEPTH_ENCODINGS = {"16UC1": np.uint16, "mono16": np.uint16, "32FC1": np.float32}


def depth_pixels(message: Any) -> np.ndarray:
    """[H, W] of a depth image's message, uint16 millimetres or float32 metres, in this machine's byte order.

    Args:
        message: a sensor_msgs/Image, or a `cdr.RawImage`.

    Raises:
        CloudError: another encoding, or data that does not fit its size.
    """
    height, width, step, encoding = message.height, message.width, message.step, message.encoding
    if encoding not in DEPTH_ENCODINGS:
        shown = encoding if len(encoding) <= 40 else f"{encoding[:40]}..."
        raise CloudError(f"depth image has encoding {shown!r}, expected one of: {', '.join(DEPTH_ENCODINGS)}")
    dtype = np.dtype(DEPTH_ENCODINGS[encoding]).newbyteorder(">" if message.is_bigendian else "<")
    data = np.frombuffer(message.data, np.uint8)
    if (
        height < 1
        or width < 1
        or step < width * dtype.itemsize
        or data.size < step * (height - 1) + width * dtype.itemsize
    ):
        raise CloudError(f"depth image is {width}x{height} {encoding} with step {step} and {data.size} bytes of data")
    rows = np.ndarray((height, width), dtype, data, strides=(step, dtype.itemsize))
    return rows.astype(dtype.newbyteorder("="), copy=False)
