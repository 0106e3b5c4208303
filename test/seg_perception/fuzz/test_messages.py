"""The CDR reader and the decoders of raw and encoded pictures."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.cdr import CdrError, read_compressed_image, read_image
from seg_perception.cdr_camera_info import read_intrinsics
from seg_perception.cdr_cloud import read_cloud
from seg_perception.cloud import CloudError
from seg_perception.image_size import ImageHeaderError, read_image_header
from seg_perception.images import (
    ENCODINGS,
    ImageError,
    decode_compressed,
    decode_compressed_label,
    decode_image,
    decode_label_image,
)
from test.seg_perception.cdr_bytes import cloud_bytes, compressed_image_bytes, image_bytes
from test.seg_perception.fuzz.fuzzing import answered, broken, fuzz
from test.seg_perception.test_labelled_points import CAMERA, camera_info

ORDERS = st.sampled_from("<>")
NAMES = st.sampled_from([*ENCODINGS, "jpeg", "png", "bgr8; jpeg compressed bgr8", ""]) | st.text(max_size=20)
SIZES = st.integers(0, 9) | st.sampled_from([2**15, 2**16 + 1, 2**31 - 1, 2**31, 2**32 - 1])
SUFFIXES = (".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm", ".pgm", ".gif")


@fuzz(400)
@given(broken(st.builds(image_bytes, ORDERS, st.binary(max_size=9), NAMES)))
def test_a_serialized_image_is_read_or_refused(data: bytes) -> None:
    with answered(CdrError, ImageError):
        image = read_image(data)
        assert len(image.data) <= len(data)
        rgb = decode_image(image.height, image.width, image.encoding, image.step, image.data, bool(image.is_bigendian))
        assert rgb.shape == (image.height, image.width, 3)


@fuzz(300)
@given(broken(st.builds(compressed_image_bytes, ORDERS, st.binary(max_size=9), NAMES, st.binary(max_size=99))))
def test_a_serialized_compressed_image_is_read_or_refused(data: bytes) -> None:
    with answered(CdrError):
        assert len(read_compressed_image(data).data) <= len(data)


CLOUD = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)


@fuzz(400)
@given(broken(st.builds(cloud_bytes, ORDERS, st.just(CLOUD), st.binary(max_size=9), st.sampled_from([12, 16, 20]))))
def test_a_serialized_cloud_is_read_or_refused(data: bytes) -> None:
    with answered(CdrError, CloudError):
        assert 12 * read_cloud(data).xyz.size <= 3 * len(data)


@fuzz(300)
@given(broken(st.builds(camera_info, st.just(CAMERA), ORDERS, st.integers(0, 14))))
def test_a_serialized_calibration_is_read_or_refused(data: bytes) -> None:
    with answered(CdrError, CloudError):
        assert read_intrinsics(data).fx > 0


@st.composite
def raw_pictures(draw: st.DrawFn) -> tuple[int, int, str, int, bytes, bool]:
    """Fields of an Image: nearly fitting, or anything."""
    encoding = draw(NAMES)
    height, width, step = draw(SIZES), draw(SIZES), draw(SIZES)
    if draw(st.booleans()):
        height, width = min(height, 12), min(width, 12)
        sample = 2 if "16" in encoding else 1
        step = width * draw(st.sampled_from([1, 2, 3, 4])) * sample + draw(st.integers(0, 4))
        data = bytes(max(height * draw(st.sampled_from([2, 3])) // 2 * step - draw(st.integers(0, 2)), 0))
    else:
        data = draw(st.binary(max_size=64))
    return height, width, encoding, step, data, draw(st.booleans())


@fuzz(800)
@given(raw_pictures())
def test_a_raw_picture_is_decoded_at_its_size_or_refused(fields: tuple[int, int, str, int, bytes, bool]) -> None:
    height, width, encoding, step, data, is_bigendian = fields
    with answered(ImageError):
        rgb = decode_image(height, width, encoding, step, data, is_bigendian)
        assert (rgb.shape, rgb.dtype) == ((height, width, 3), np.uint8)
    with answered(ImageError):
        assert decode_label_image(height, width, encoding, step, data).shape == (height, width)


def encoded(suffix: str, channels: int, seed: int) -> bytes:
    is_colour = channels == 3 if suffix not in (".ppm", ".pgm", ".gif") else suffix != ".pgm"  # these know one of them
    shape = (13, 17, 3) if is_colour else (13, 17)
    picture = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return cv2.imencode(suffix, picture)[1].tobytes()


PICTURES = st.builds(encoded, st.sampled_from(SUFFIXES), st.sampled_from([1, 3]), st.integers(0, 3))


def assert_decoded_or_refused(data: bytes) -> None:
    most = 10_000_000
    with answered(ImageError):
        rgb = decode_compressed(data, "jpeg", most)
        header = read_image_header(memoryview(data))
        assert rgb.shape[0] * rgb.shape[1] <= most
        assert (rgb.ndim, rgb.shape[2], rgb.dtype) == (3, 3, np.uint8)
        assert (header.height, header.width) == rgb.shape[:2], header


@fuzz(600)
@given(broken(PICTURES))
def test_a_damaged_picture_is_decoded_at_its_stated_size_or_refused(data: bytes) -> None:
    assert_decoded_or_refused(data)


@fuzz(300)
@given(
    st.sampled_from(
        [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF\0\0\0\0WEBPVP8", b"II*\0", b"GIF89a", b"P6 "]
    ),
    st.binary(max_size=300),
)
def test_what_only_begins_as_a_picture_is_refused_or_decoded(start: bytes, rest: bytes) -> None:
    assert_decoded_or_refused(start + rest)


@fuzz(200)
@given(broken(st.builds(encoded, st.just(".png"), st.sampled_from([1, 3]), st.integers(0, 3))))
def test_a_damaged_label_picture_is_ids_or_refused(data: bytes) -> None:
    with answered(ImageError):
        labels = decode_compressed_label(data)
        assert (labels.ndim, labels.dtype) == (2, np.uint8)


@st.composite
def tiff_headers(draw: st.DrawFn) -> bytes:
    """A directory of TIFF tags with any values: sizes, strips and tiles that lie."""
    order = draw(st.sampled_from("<>"))
    tags = draw(
        st.lists(
            st.tuples(
                st.sampled_from([256, 257, 258, 259, 262, 273, 277, 278, 279, 322, 323, 324, 325, 339])
                | st.integers(0, 65535),
                st.integers(0, 18),
                st.integers(0, 4) | st.sampled_from([2**16, 2**31, 2**32 - 1]),
                SIZES,
            ),
            max_size=14,
        )
    )
    entries = b"".join(struct.pack(f"{order}HHII", *tag) for tag in tags)
    magic = b"II" if order == "<" else b"MM"
    return magic + struct.pack(f"{order}HIH", 42, 8, len(tags)) + entries + bytes(4) + draw(st.binary(max_size=64))


@fuzz(300)
@given(tiff_headers())
def test_a_made_up_tiff_is_refused_or_decoded(data: bytes) -> None:
    assert_decoded_or_refused(data)


@fuzz(200)
@given(broken(PICTURES))
def test_a_header_alone_is_a_size_or_an_error(data: bytes) -> None:
    with answered(ImageHeaderError):
        assert read_image_header(memoryview(data)).pixels >= 0
