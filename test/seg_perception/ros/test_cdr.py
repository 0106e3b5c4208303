"""The CDR reader and writer against ROS's own serialization, on whole, damaged and foreign messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy (ROS 2) is not installed")

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image

from seg_perception.cdr import CdrError, Header, read_compressed_image, read_image, write_image
from seg_perception.images import ImageError
from seg_perception.ros.frame_decoder import FrameDecoder
from test.seg_perception.cdr_bytes import compressed_image_bytes, image_bytes


def by_ros(serialized: bytes, kind: Any) -> Any:
    """ROS's reading, or None where it refuses."""
    try:
        return deserialize_message(serialized, kind)
    except Exception:
        return None


def assert_same(ours: Any, theirs: Any) -> None:
    """Every field of both readings."""
    stamp = theirs.header.stamp
    assert (ours.header.sec, ours.header.nanosec) == (stamp.sec, stamp.nanosec)
    assert ours.header.frame_id.decode("utf-8", "replace") == theirs.header.frame_id
    names = ("format",) if isinstance(theirs, CompressedImage) else ("height", "width", "encoding", "step")
    for name in names:
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.data == memoryview(theirs.data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("frame_id", [b"", b"abc", b"abcd"])
def test_both_byte_orders_are_read_as_ros_reads_them(order, frame_id):
    image = image_bytes(order, frame_id)
    assert_same(read_image(image), by_ros(image, Image))
    compressed = compressed_image_bytes(order, frame_id, "jpeg", b"12345")
    assert_same(read_compressed_image(compressed), by_ros(compressed, CompressedImage))


@pytest.mark.parametrize(("kind", "read"), [(Image, read_image), (CompressedImage, read_compressed_image)])
def test_a_damaged_message_is_read_as_ros_reads_it_or_refused(kind, read):
    random = np.random.default_rng(7)
    message = kind(data=bytes(range(40)))
    message.header.frame_id = "camera"
    agreed = refused = 0
    for sample in range(3000):
        whole = serialize_message(message) if sample % 2 else image_bytes(">") if kind is Image else b"\0\0" + bytes(40)
        damaged = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            damaged[random.integers(2, len(damaged))] = random.choice([0, 1, 255, random.integers(0, 256)])
        if sample % 5 == 0:
            del damaged[random.integers(2, len(damaged)) :]
        try:
            ours = read(bytes(damaged))
        except CdrError:
            refused += 1
            continue
        theirs = by_ros(bytes(damaged), kind)
        assert theirs is not None, damaged.hex(" ")  # nothing is read that ROS refuses
        assert_same(ours, theirs)
        agreed += 1
    assert agreed > 300
    assert refused > 300


@pytest.mark.parametrize(("encoding", "dtype"), [("mono8", np.uint8), ("16UC1", np.uint16)])
def test_masks_are_what_ros_would_have_written(encoding, dtype):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7)).astype(dtype)
    for frame_id in ("", "a", "camera_optical_frame"):
        theirs = Image(height=5, width=7, encoding=encoding, step=pixels.nbytes // 5, data=pixels.tobytes())
        theirs.header.stamp.sec, theirs.header.stamp.nanosec, theirs.header.frame_id = -3, 5, frame_id
        ours = write_image(Header(-3, 5, frame_id.encode()), encoding, pixels)
        assert by_ros(ours, Image) == theirs
        # Apart from bytes of padding, which ROS leaves as they were in memory.
        assert len(ours) == len(serialize_message(theirs))


def test_another_encapsulation_is_left_to_ros():
    frame = FrameDecoder(compressed=False).decode(
        b"\0\3" + image_bytes("<")[2:]
    )  # a list of parameters, which ROS reads
    assert frame.header == Header(-7, 4_000_000_000, b"ab")
    np.testing.assert_array_equal(frame.rgb, np.arange(18, dtype=np.uint8).reshape(2, 3, 3))
    with pytest.raises(ImageError, match=r"message of \d+ bytes cannot be deserialized"):
        FrameDecoder(compressed=False).decode(b"\0\6" + image_bytes("<")[2:])


def test_a_cut_message_is_one_clear_error():
    with pytest.raises(ImageError, match="cut short: data needs 18 bytes"):
        FrameDecoder(compressed=False).decode(image_bytes("<")[:-1])


def test_the_buffer_is_kept_between_images_of_one_size():
    decoder = FrameDecoder(compressed=False)
    first = decoder.decode(image_bytes("<", encoding="mono8")).pixels
    np.testing.assert_array_equal(first[..., 1], [[0, 1, 2], [9, 10, 11]])
    second = decoder.decode(image_bytes("<", encoding="mono8")).pixels
    assert np.shares_memory(first, second)


@pytest.mark.parametrize(("encoding", "bgr"), [("rgb8", False), ("bgr8", True)])
def test_colours_that_need_no_conversion_are_looked_at_in_the_message_itself(encoding, bgr):
    serialized = image_bytes("<", encoding=encoding)
    frame = FrameDecoder(compressed=False).decode(serialized)
    assert np.shares_memory(frame.pixels, np.frombuffer(serialized, np.uint8))
    assert frame.bgr == bgr
    expected = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(frame.rgb, expected[..., ::-1] if bgr else expected)
    assert frame.rgb is frame.rgb  # converted once
