"""From the bytes that came over DDS to an image, with as few copies as there can be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from seg_perception.cdr import (
    CdrError,
    Header,
    RawImage,
    UnknownEncapsulationError,
    read_compressed_image,
    read_image,
)
from seg_perception.image_size import MAX_PIXELS
from seg_perception.images import (
    ENCODINGS,
    ImageError,
    decode_compressed_bgr,
    decode_pixels,
    image_message_to_rgb,
)


@dataclass(frozen=True)
class DecodedFrame:
    """A camera image.

    Attributes:
        header: of the message.
        pixels: uint8 [H, W, 3]. It may share memory with the message or the decoder: read it only, and only until the
            decoder's next call.
        bgr: whether its channels are blue, green, red; else red, green, blue.
    """

    header: Header
    pixels: np.ndarray
    bgr: bool

    @cached_property
    def rgb(self) -> np.ndarray:
        """Red first, for what wants all pixels in colour; converted when it is asked for. As `pixels` otherwise."""
        return cv2.cvtColor(self.pixels, cv2.COLOR_BGR2RGB) if self.bgr else self.pixels


class FrameDecoder:
    """Decodes the serialized messages of one camera; keeps its buffer from image to image.

    Args:
        compressed: whether they are sensor_msgs/CompressedImage; else sensor_msgs/Image.
        max_pixels: of a compressed image that is still decoded.
    """

    def __init__(self, compressed: bool, max_pixels: int = MAX_PIXELS) -> None:
        self._compressed = compressed
        self._max_pixels = max_pixels
        self._buffer: np.ndarray | None = None

    def decode(self, serialized: bytes) -> DecodedFrame:
        """One message.

        Raises:
            ImageError: no such message, or its image cannot be used.
        """
        try:
            if self._compressed:
                compressed = read_compressed_image(serialized)
                bgr = decode_compressed_bgr(compressed.data, compressed.format, self._max_pixels)
                return DecodedFrame(compressed.header, bgr, bgr=True)
            image = read_image(serialized)
        except UnknownEncapsulationError:
            return self._by_message_class(serialized)
        except CdrError as error:
            raise ImageError(str(error)) from error
        if image.encoding not in ENCODINGS:  # cv_bridge may know it, and wants a message
            return self._by_message_class(serialized)
        return DecodedFrame(image.header, *self._decode_raw(image))

    def _decode_raw(self, image: RawImage) -> tuple[np.ndarray, bool]:
        size = (image.height, image.width, 3)
        reusable = self._buffer if self._buffer is not None and self._buffer.shape == size else None
        pixels, bgr = decode_pixels(
            image.height, image.width, image.encoding, image.step, image.data, bool(image.is_bigendian), reusable
        )
        if pixels.flags.owndata:  # not where it is a view of the message
            self._buffer = pixels
        return pixels, bgr

    def _by_message_class(self, serialized: bytes) -> DecodedFrame:
        message: Any
        try:
            message = deserialize_message(serialized, CompressedImage if self._compressed else Image)
        except Exception as error:  # rclpy has no public class for what the middleware raises here
            raise ImageError(f"message of {len(serialized)} bytes cannot be deserialized: {_line(error)}") from error
        stamp = message.header.stamp
        header = Header(stamp.sec, stamp.nanosec, message.header.frame_id.encode())
        if self._compressed:
            return DecodedFrame(header, decode_compressed_bgr(message.data, message.format, self._max_pixels), bgr=True)
        return DecodedFrame(header, image_message_to_rgb(message), bgr=False)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
