"""The pinhole camera in a sensor_msgs/CameraInfo, read from the bytes that travel over DDS. No ROS in here.

CDR as in `cdr.py`; behind the header come

    height, width        uint32, uint32
    distortion_model     string
    d                    uint32 count, float64 each
    k                    float64[9], of which the rest of the message is not needed
"""

from __future__ import annotations

from seg_perception.cdr import CdrReader
from seg_perception.cloud import Intrinsics


def read_intrinsics(serialized: bytes) -> Intrinsics:
    """K of a serialized sensor_msgs/CameraInfo.

    Raises:
        UnknownEncapsulationError: not classic CDR.
        CdrError: cut short, or a length or string that cannot be.
        CloudError: K is no calibrated camera's.
    """
    reader = CdrReader(serialized, "sensor_msgs/CameraInfo")
    reader.header()
    height, width = reader.uint32("height"), reader.uint32("width")
    reader.text("distortion_model")
    reader.float64s(reader.uint32("d"), "d")
    k = reader.float64s(9, "k")
    return Intrinsics(k[0], k[4], k[2], k[5], (height, width))
