"""Camera messages to RGB arrays, label messages to class ids, and arrays back to message bytes.

Works on the attributes of sensor_msgs/Image and CompressedImage only, so messages of rclpy and of the rosbags library
do alike, and no ROS is needed.

Encodings, as sensor_msgs/image_encodings.hpp and the drivers use them:

    bgr8 rgb8 bgra8 rgba8 mono8              8UC3 and 8UC4 are taken as bgr8 and bgra8, 8UC1 as mono8 (OpenCV's habit)
    bgr16 rgb16 bgra16 rgba16 mono16         the full 16-bit range is mapped to 8 bits; is_bigendian is honoured
    bayer_{rggb,bggr,gbrg,grbg}{8,16}        demosaicked bilinearly
    yuv422 uyvy                              4:2:2, packed U Y V Y
    yuv422_yuy2 yuyv                         4:2:2, packed Y U Y V
    nv12 nv21                                4:2:0, a full plane of Y, then one of half height with U V (V U) pairs
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from seg_perception.image_size import MAX_PIXELS, PNG_START, ImageHeader, ImageHeaderError, read_image_header

JPEG_END = b"\xff\xd9"


class ImageError(ValueError):
    """An image message cannot be used. The message is one line: what came, what was expected."""


class ImageMessage(Protocol):
    """The attributes of sensor_msgs/Image that are read."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedMessage(Protocol):
    """The attributes of sensor_msgs/CompressedImage that are read."""

    format: str
    data: Any


@dataclass(frozen=True)
class _Encoding:
    """How pixels lie in memory.

    Attributes:
        dtype: of one sample.
        samples: per pixel in a row; for planar formats those of the first plane.
        conversion: cv2.COLOR_* code to RGB; None where it is RGB already.
        min_size: smallest height and width that can be converted.
        multiple_of: height and width must be multiples of these.
        rows: rows of data for rows of image, as a fraction (3, 2) for formats with a half plane of colour.
    """

    dtype: type[np.unsignedinteger[Any]]
    samples: int
    conversion: int | None
    min_size: tuple[int, int] = (1, 1)
    multiple_of: tuple[int, int] = (1, 1)
    rows: tuple[int, int] = (1, 1)


def _bayer(dtype: type[np.unsignedinteger[Any]], conversion: int) -> _Encoding:
    return _Encoding(dtype, 1, conversion, min_size=(3, 3))


# OpenCV names a Bayer pattern by its second row's second and third pixel: ROS's rggb is OpenCV's BG.
_ENCODINGS: dict[str, _Encoding] = {
    "rgb8": _Encoding(np.uint8, 3, None),
    "bgr8": _Encoding(np.uint8, 3, cv2.COLOR_BGR2RGB),
    "rgba8": _Encoding(np.uint8, 4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Encoding(np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "mono8": _Encoding(np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Encoding(np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "8UC3": _Encoding(np.uint8, 3, cv2.COLOR_BGR2RGB),
    "8UC4": _Encoding(np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "rgb16": _Encoding(np.uint16, 3, None),
    "bgr16": _Encoding(np.uint16, 3, cv2.COLOR_BGR2RGB),
    "rgba16": _Encoding(np.uint16, 4, cv2.COLOR_RGBA2RGB),
    "bgra16": _Encoding(np.uint16, 4, cv2.COLOR_BGRA2RGB),
    "mono16": _Encoding(np.uint16, 1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": _bayer(np.uint8, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": _bayer(np.uint8, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": _bayer(np.uint8, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": _bayer(np.uint8, cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": _bayer(np.uint16, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr16": _bayer(np.uint16, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": _bayer(np.uint16, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg16": _bayer(np.uint16, cv2.COLOR_BayerGB2RGB),
    "yuv422": _Encoding(np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY, (1, 2), (1, 2)),
    "uyvy": _Encoding(np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY, (1, 2), (1, 2)),
    "yuv422_yuy2": _Encoding(np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2, (1, 2), (1, 2)),
    "yuyv": _Encoding(np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2, (1, 2), (1, 2)),
    "nv12": _Encoding(np.uint8, 1, cv2.COLOR_YUV2RGB_NV12, (2, 2), (2, 2), rows=(3, 2)),
    "nv21": _Encoding(np.uint8, 1, cv2.COLOR_YUV2RGB_NV21, (2, 2), (2, 2), rows=(3, 2)),
}
ENCODINGS = tuple(_ENCODINGS)
_BLUE_FIRST = ("bgr8", "8UC3")
LABEL_ENCODINGS = ("mono8", "8UC1")


def decode_image(
    height: int,
    width: int,
    encoding: str,
    step: int,
    data: Any,
    is_bigendian: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Pixels of a sensor_msgs/Image as RGB.

    Args:
        height, width: pixels.
        encoding: one of ENCODINGS.
        step: bytes from one row to the next, padding included.
        data: anything with the buffer protocol: bytes, array.array, a uint8 array.
        is_bigendian: byte order of 16-bit samples.
        out: uint8 [H, W, 3], contiguous: memory to convert into, where pixels are converted.

    Returns:
        uint8 [H, W, 3]. For rgb8 it is a view of `data` without a copy: read it only, and keep no longer than `data`.

    Raises:
        ImageError: unknown encoding; zero-sized or too small; step or length that does not fit; a size that the
            encoding cannot have.
    """
    layout = _ENCODINGS.get(encoding)
    if layout is None:
        raise ImageError(f"encoding {encoding!r} is not supported; expected one of: {', '.join(ENCODINGS)}")
    pixels = _pixel_rows(height, width, encoding, layout, step, data)  # (rows, W * samples)
    if layout.dtype is np.uint16:
        pixels = _to_8_bits(pixels, is_bigendian)
    if layout.samples > 1:
        pixels = pixels.reshape(height, width, layout.samples)
    return pixels if layout.conversion is None else cv2.cvtColor(pixels, layout.conversion, dst=out)


def decode_pixels(
    height: int,
    width: int,
    encoding: str,
    step: int,
    data: Any,
    is_bigendian: bool = False,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, bool]:
    """As `decode_image`, but blue first where the message has it so: a large image costs less once it is small.

    Returns:
        uint8 [H, W, 3] and whether its channels are blue, green, red. For rgb8, bgr8 and 8UC3 a view of `data`.
    """
    if encoding not in _BLUE_FIRST:
        return decode_image(height, width, encoding, step, data, is_bigendian, out), False
    rows = _pixel_rows(height, width, encoding, _ENCODINGS[encoding], step, data)
    return rows.reshape(height, width, 3), True


def decode_label_image(height: int, width: int, encoding: str, step: int, data: Any) -> np.ndarray:
    """Class ids of a label sensor_msgs/Image: uint8 [H, W], a view of `data` without a copy; 255 = not labelled.

    Raises:
        ImageError: the encoding is none of LABEL_ENCODINGS, or size, step and length do not fit.
    """
    if encoding not in LABEL_ENCODINGS:
        raise ImageError(f"label image has encoding {encoding!r}, expected one of: {', '.join(LABEL_ENCODINGS)}")
    return _pixel_rows(height, width, encoding, _ENCODINGS[encoding], step, data)


def decode_compressed(data: Any, format: str, max_pixels: int = MAX_PIXELS, turned: bool = False) -> np.ndarray:
    """Pixels of a sensor_msgs/CompressedImage (`image_size.KINDS`) as RGB, uint8 [H, W, 3].

    Args:
        data: anything with the buffer protocol.
        format: the message's format field; used in messages, since the bytes themselves say what they are.
        max_pixels: of an image that is still decoded; a file of a few kilobytes may unpack to gigabytes.
        turned: as its EXIF data says, as people see a file.

    Raises:
        ImageError: empty, cut short, nothing that can be decoded, or of more than `max_pixels`.
    """
    return cv2.cvtColor(decode_compressed_bgr(data, format, max_pixels, turned), cv2.COLOR_BGR2RGB)


def decode_compressed_bgr(data: Any, format: str, max_pixels: int = MAX_PIXELS, turned: bool = False) -> np.ndarray:
    """As `decode_compressed`, blue first."""
    # Without IGNORE_ORIENTATION a camera's EXIF tag would turn the image, and the mask would not lie on it any more.
    buffer, header = _checked_header(data, format, max_pixels)
    return _decode(buffer, header, format, cv2.IMREAD_COLOR | (0 if turned else cv2.IMREAD_IGNORE_ORIENTATION))


def decode_compressed_label(data: Any, format: str = "png") -> np.ndarray:
    """Class ids of a label sensor_msgs/CompressedImage: uint8 [H, W]; 255 = not labelled.

    Raises:
        ImageError: no PNG of one 8-bit channel (JPEG is refused: it changes ids), or of more than MAX_PIXELS.
    """
    if memoryview(data)[:8].tobytes() != PNG_START:
        raise ImageError(f"label image has format {format!r}, expected PNG (a lossy format changes class ids)")
    buffer, header = _checked_header(data, format, MAX_PIXELS)
    if header.sample_bits < 8:
        # OpenCV would stretch the ids over 0..255, into other classes.
        raise ImageError(f"label PNG has {header.sample_bits}-bit samples, expected 8-bit ones holding class ids")
    labels = _decode(buffer, header, format, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype != np.uint8:
        channels = 1 if labels.ndim == 2 else labels.shape[2]
        raise ImageError(
            f"label PNG has {channels} channels of {labels.dtype}, expected 1 of uint8 holding class ids (not colours)"
        )
    return labels


def image_message_to_rgb(msg: ImageMessage) -> np.ndarray:
    """`decode_image` on a message. Any other encoding goes to the robot's cv_bridge, where one is installed.

    Raises:
        ImageError: as `decode_image`, or cv_bridge cannot convert it either.
    """
    if msg.encoding in _ENCODINGS:
        return decode_image(msg.height, msg.width, msg.encoding, msg.step, msg.data, bool(msg.is_bigendian))
    convert = _cv_bridge_conversion(msg.encoding)
    try:
        return np.asarray(convert(msg))
    except Exception as error:  # cv_bridge raises its own, OpenCV's and Python's errors
        raise ImageError(f"cv_bridge cannot convert encoding {msg.encoding!r} to rgb8: {error}") from error


def compressed_message_to_rgb(msg: CompressedMessage) -> np.ndarray:
    """`decode_compressed` on a message."""
    return decode_compressed(msg.data, msg.format)


def label_message_to_ids(msg: ImageMessage) -> np.ndarray:
    """`decode_label_image` on a message."""
    return decode_label_image(msg.height, msg.width, msg.encoding, msg.step, msg.data)


def compressed_label_message_to_ids(msg: CompressedMessage) -> np.ndarray:
    """`decode_compressed_label` on a message."""
    return decode_compressed_label(msg.data, msg.format)


def _pixel_rows(height: int, width: int, encoding: str, layout: _Encoding, step: int, data: Any) -> np.ndarray:
    """The samples as [rows, W * samples] without a copy, padding at the end of rows left out."""
    size = f"{width}x{height} {encoding}"
    if height < 1 or width < 1:
        raise ImageError(f"image is {size}: it has no pixels")
    if height < layout.min_size[0] or width < layout.min_size[1]:
        raise ImageError(f"image is {size}: expected at least {layout.min_size[1]}x{layout.min_size[0]} pixels")
    if height % layout.multiple_of[0] or width % layout.multiple_of[1]:
        odd = "width" if layout.multiple_of[0] == 1 else "width and height"
        raise ImageError(f"image is {size}: expected an even {odd}, since pixels share their colour in pairs")
    item = np.dtype(layout.dtype).itemsize
    row_bytes = width * layout.samples * item
    if step < row_bytes:
        raise ImageError(f"image is {size} with step {step}: expected at least {row_bytes} bytes a row")
    if step % item:
        raise ImageError(f"image is {size} with step {step}: expected a multiple of {item} bytes")
    rows = height * layout.rows[0] // layout.rows[1]
    buffer = np.frombuffer(data, np.uint8)
    # The last row's padding may be missing: some drivers do not send it.
    least, most = step * (rows - 1) + row_bytes, step * rows
    if not least <= buffer.size <= most:
        raise ImageError(f"image is {size} with step {step}: expected {most} bytes of data, got {buffer.size}")
    return np.ndarray((rows, row_bytes // item), layout.dtype, buffer, strides=(step, item))


def _to_8_bits(samples: np.ndarray, is_bigendian: bool) -> np.ndarray:
    """16-bit samples mapped to 0..255 and rounded, 65535 to 255."""
    if is_bigendian:
        samples = samples.byteswap()
    return cv2.convertScaleAbs(samples, alpha=255.0 / 65535.0)


def _checked_header(data: Any, format: str, max_pixels: int) -> tuple[np.ndarray, ImageHeader]:
    """The bytes, uint8 [N], and what they say of their size, which is one that may be decoded."""
    buffer = np.frombuffer(data, np.uint8)
    if buffer.size == 0:
        raise ImageError(f"compressed image ({format!r}) is empty")
    if "compressedDepth" in format:
        raise ImageError(f"compressed image has format {format!r}: a depth image; expected a colour camera's topic")
    try:
        header = read_image_header(buffer.data)
    except ImageHeaderError as error:
        raise ImageError(_undecodable(buffer, format, str(error))) from error
    if header.pixels > max_pixels:
        raise ImageError(
            f"compressed image ({format!r}, {buffer.size} bytes) is {header.width}x{header.height} pixels; expected at "
            f"most {max_pixels} of them"
        )
    return buffer, header


def _decode(buffer: np.ndarray, header: ImageHeader, format: str, flags: int) -> np.ndarray:
    if header.kind == "JPEG" and not _has_jpeg_end(buffer, header.pixels_start):
        # OpenCV 4 would fill up what is missing with grey, and the model would segment the grey.
        raise ImageError(_undecodable(buffer, format))
    try:
        image = cv2.imdecode(buffer, flags)
    except cv2.error as error:
        raise ImageError(_undecodable(buffer, format)) from error
    if image is None or image.size == 0:
        raise ImageError(_undecodable(buffer, format))
    return image


def _has_jpeg_end(buffer: np.ndarray, pixels_start: int) -> bool:
    # Nearly always the last two bytes; some cameras pad. The whole is searched only where the end does not have it.
    # A thumbnail before the pixels has an end of its own, which does not count.
    pixels = buffer[pixels_start:]
    return JPEG_END in pixels[-4096:].tobytes() or JPEG_END in pixels.tobytes()


def _undecodable(buffer: np.ndarray, format: str, what: str = "it is cut short or damaged") -> str:
    return f"compressed image ({format!r}, {buffer.size} bytes) cannot be decoded: {what}"


def _cv_bridge_conversion(encoding: str) -> Callable[[ImageMessage], Any]:
    try:
        from cv_bridge import CvBridge
    except ImportError as error:
        raise ImageError(
            f"encoding {encoding!r} is not supported; expected one of: {', '.join(ENCODINGS)} "
            "(with ROS's cv_bridge installed, those that it converts as well)"
        ) from error
    bridge = CvBridge()
    return lambda msg: bridge.imgmsg_to_cv2(msg, "rgb8")
