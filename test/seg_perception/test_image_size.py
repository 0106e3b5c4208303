from __future__ import annotations

import contextlib
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.image_size import ImageHeaderError, read_image_header
from seg_perception.images import ImageError, decode_compressed, decode_compressed_label

KINDS = {".jpg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WebP", ".tiff": "TIFF", ".ppm": "PNM", ".gif": "GIF"}
PICTURE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)


def encoded(suffix: str, picture: np.ndarray = PICTURE) -> bytes:
    whole, data = cv2.imencode(suffix, picture)
    assert whole
    return data.tobytes()


def png_of(width: int, height: int, bits: int = 8) -> bytes:
    """A small grey PNG of any stated size whose pixels are all zero."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    pixels = zlib.compress(bytes((width * bits + 7) // 8 + 1) * min(height, 4000), 9)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", KINDS)
def test_the_size_is_read_without_decoding(suffix: str) -> None:
    header = read_image_header(memoryview(encoded(suffix)))
    assert (header.kind, header.height, header.width) == (KINDS[suffix], 37, 53)


@pytest.mark.parametrize("suffix", KINDS)
def test_every_kind_is_decoded_all_the_same(suffix: str) -> None:
    assert decode_compressed(encoded(suffix), suffix).shape == (37, 53, 3)


def test_a_picture_that_unpacks_to_gigabytes_is_refused_at_once() -> None:
    bomb = png_of(30_000, 30_000)
    begin_s = time.process_time()
    with pytest.raises(ImageError, match="is 30000x30000 pixels; expected at most 134217728 of them"):
        decode_compressed(bomb, "png")
    with pytest.raises(ImageError, match="is 30000x30000 pixels"):
        decode_compressed_label(bomb)
    assert time.process_time() - begin_s < 1.0  # decoding it takes 20 s; half a second of slack for a busy machine
    with pytest.raises(ImageError, match="expected at most 100 of them"):
        decode_compressed(encoded(".jpg"), "jpeg", max_pixels=100)


def test_labels_of_fewer_bits_are_refused_since_they_would_be_stretched() -> None:
    with pytest.raises(ImageError, match="label PNG has 2-bit samples, expected 8-bit"):
        decode_compressed_label(png_of(16, 16, bits=2))


def test_a_thumbnails_end_is_not_the_pictures() -> None:
    whole = encoded(".jpg")
    thumbnail = encoded(".jpg", PICTURE[:8, :8])
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    with_thumbnail = whole[:2] + segment + whole[2:]
    header = read_image_header(memoryview(with_thumbnail))
    assert (header.height, header.width) == (37, 53)
    assert decode_compressed(with_thumbnail, "jpeg").shape == (37, 53, 3)
    with pytest.raises(ImageError, match="cut short or damaged"):
        decode_compressed(with_thumbnail[: len(with_thumbnail) - len(whole) // 3], "jpeg")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    suffix=st.sampled_from(sorted(KINDS)),
    cut=st.integers(0, 4000),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=8),
)
def test_damage_is_one_error_or_a_size_never_anything_else(
    suffix: str, cut: int, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(encoded(suffix)[: cut or None])
    for place, value in changes:
        if place < len(data):
            data[place] = value
    with contextlib.suppress(ImageHeaderError):
        assert read_image_header(memoryview(bytes(data))).pixels >= 0


def test_megabytes_of_nothing_do_not_keep_the_reader_busy() -> None:
    begin_s = time.process_time()
    with pytest.raises(ImageHeaderError, match="cut short"):
        read_image_header(memoryview(b"\xff\xd8" + bytes(30_000_000)))
    with pytest.raises(ImageHeaderError, match="cut short"):
        read_image_header(memoryview(b"\xff\xd8" + b"\xff\xd0" * 500_000))
    assert time.process_time() - begin_s < 2.0
