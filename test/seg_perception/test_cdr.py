"""The CDR reader and writer: against hand-written bytes, and fuzzed. What ROS itself says of them is in ros/test_cdr.py."""

from __future__ import annotations

import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.cdr import (
    CdrError,
    Header,
    UnknownEncapsulationError,
    read_compressed_image,
    read_image,
    write_image,
)
from test.seg_perception.cdr_bytes import compressed_image_bytes, image_bytes


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("frame_id", [b"", b"a", b"ab", b"abc", b"abcd", "kamera_ä".encode(), b"\xff\xfe"])
@pytest.mark.parametrize("encoding", ["mono8", "rgb8", "yuv422_yuy2"])
def test_every_alignment_in_both_byte_orders(order, frame_id, encoding):
    image = read_image(image_bytes(order, frame_id, encoding, is_bigendian=1))
    assert image.header == Header(-7, 4_000_000_000, frame_id)
    assert (image.height, image.width, image.encoding, image.is_bigendian, image.step) == (2, 3, encoding, 1, 9)
    assert image.data == bytes(range(18))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("frame_id", [b"", b"abc", b"abcd"])
def test_compressed_images_in_both_byte_orders(order, frame_id):
    image = read_compressed_image(compressed_image_bytes(order, frame_id, "rgb8; jpeg compressed bgr8", b"\xff\xd8..."))
    assert image.header == Header(-7, 4_000_000_000, frame_id)
    assert (image.format, image.data) == ("rgb8; jpeg compressed bgr8", b"\xff\xd8...")


def test_pixels_are_a_view():
    serialized = image_bytes("<")
    image = read_image(serialized)
    assert image.data.obj is serialized


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_empty_string_may_come_without_its_nul(order):
    assert (
        read_image(image_bytes(order).replace(struct.pack(f"{order}I", 3) + b"ab\0\0", bytes(4))).header.frame_id == b""
    )


def test_stamps_before_1970_are_negative():
    assert Header(-2, 500_000_000, b"").stamp_ns == -1_500_000_000


@pytest.mark.parametrize("length", [0, 1, 3])
def test_less_than_an_encapsulation_is_refused(length):
    with pytest.raises(CdrError, match=f"has {length} bytes, expected at least 4"):
        read_image(bytes(length))


@pytest.mark.parametrize("start", [b"\0\2", b"\0\3", b"\0\6", b"\0\7", b"\0\x0a", b"\1\1", b"\xff\xff"])
def test_other_encapsulations_are_named(start):
    with pytest.raises(UnknownEncapsulationError, match=f"starts with {start.hex(' ')}, expected 00 00 or 00 01"):
        read_image(start + image_bytes("<")[2:])


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_cut_is_refused_with_the_field_that_is_missing(order):
    serialized = image_bytes(order)
    for length in range(4, len(serialized)):
        with pytest.raises(CdrError, match=r"cut short: [a-z_.]+ needs \d+ bytes at \d+, the message has \d+"):
            read_image(serialized[:length])


def test_a_huge_length_is_refused_before_anything_is_allocated():
    serialized = bytearray(image_bytes("<"))
    serialized[-22:-18] = b"\xff\xff\xff\xff"
    with pytest.raises(CdrError, match="data needs 4294967295 bytes"):
        read_image(bytes(serialized))


@pytest.mark.parametrize("frame_id", [b"ab\x01", b"a\0\0"])
def test_a_string_without_a_nul_at_its_end_alone_is_refused(frame_id):
    serialized = image_bytes("<").replace(b"ab\0", frame_id)
    with pytest.raises(CdrError, match=r"header\.frame_id is no string that ends with its only NUL"):
        read_image(serialized)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\0\0\0\0", b"\0\1\0\0"]))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_any_bytes_are_read_or_refused(content, start):
    for read in (read_image, read_compressed_image):
        with suppress(CdrError):
            assert len(read(start + content).data) <= len(content)


@given(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=12).filter(lambda name: 0 not in name),
    st.sampled_from([("mono8", np.uint8, ()), ("16UC1", np.uint16, ()), ("rgb8", np.uint8, (3,))]),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_what_is_written_reads_back(sec, nanosec, frame_id, layout, size):
    encoding, dtype, channels = layout
    pixels = np.random.default_rng(0).integers(0, 256, (*size, *channels)).astype(dtype)
    header = Header(sec, nanosec, frame_id)
    image = read_image(write_image(header, encoding, pixels))
    assert image.header == header
    assert (image.height, image.width, image.encoding) == (*size, encoding)
    assert (image.step, image.data) == (pixels.nbytes // size[0], pixels.tobytes())


def test_rows_of_a_cut_out_are_written_without_gaps():
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)[::2, 1:4]
    assert read_image(write_image(Header(0, 0, b""), "mono8", pixels)).data == pixels.tobytes()
