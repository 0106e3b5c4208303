from __future__ import annotations

import array
import builtins
from typing import Any

import cv2
import numpy as np
import pytest

from seg_perception.images import (
    ENCODINGS,
    ImageError,
    decode_compressed,
    decode_compressed_label,
    decode_image,
    decode_label_image,
    image_message_to_rgb,
)
from test.seg_perception.tiny_bag import image_message

HEIGHT, WIDTH = 6, 8


def samples(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def padded(rows: np.ndarray, padding: int = 5) -> tuple[bytes, int]:
    """Rows with bytes behind each that must not be read, and their step."""
    flat = np.ascontiguousarray(rows).view(np.uint8).reshape(rows.shape[0], -1)
    padding += (flat.shape[1] + padding) % 2  # 16-bit samples need an even step
    data = np.concatenate([flat, np.full((len(flat), padding), 222, np.uint8)], axis=1)
    return data.tobytes(), data.shape[1]


def rounded(values: np.ndarray) -> np.ndarray:
    """16 bits to 8: 0..65535 mapped to 0..255."""
    return np.rint(values.astype(np.float64) * 255.0 / 65535.0).astype(np.uint8)


@pytest.mark.parametrize(
    ("encoding", "channels", "order"),
    [
        ("rgb8", 3, (0, 1, 2)),
        ("bgr8", 3, (2, 1, 0)),
        ("rgba8", 4, (0, 1, 2)),
        ("bgra8", 4, (2, 1, 0)),
        ("8UC3", 3, (2, 1, 0)),
        ("8UC4", 4, (2, 1, 0)),
        ("mono8", 1, (0, 0, 0)),
        ("8UC1", 1, (0, 0, 0)),
        ("rgb16", 3, (0, 1, 2)),
        ("bgr16", 3, (2, 1, 0)),
        ("rgba16", 4, (0, 1, 2)),
        ("bgra16", 4, (2, 1, 0)),
        ("mono16", 1, (0, 0, 0)),
    ],
)
@pytest.mark.parametrize("is_bigendian", [False, True])
def test_colour_and_grey_encodings_put_every_channel_in_its_place(
    encoding: str, channels: int, order: tuple[int, ...], is_bigendian: bool
) -> None:
    wide = encoding.endswith("16")
    pixels = samples((HEIGHT, WIDTH, channels), np.uint16 if wide else np.uint8)
    sent = pixels.astype(">u2") if wide and is_bigendian else pixels
    data, step = padded(sent.reshape(HEIGHT, -1))
    rgb = decode_image(HEIGHT, WIDTH, encoding, step, data, is_bigendian)
    expected = (rounded(pixels) if wide else pixels)[..., list(order)]
    np.testing.assert_array_equal(rgb, expected)
    assert rgb.dtype == np.uint8


BAYER_ROWS = {"rggb": ("rg", "gb"), "bggr": ("bg", "gr"), "gbrg": ("gb", "rg"), "grbg": ("gr", "bg")}


@pytest.mark.parametrize("pattern", sorted(BAYER_ROWS))
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_encodings_interpolate_bilinearly(pattern: str, bits: int) -> None:
    mosaic = samples((HEIGHT, WIDTH), np.uint8 if bits == 8 else np.uint16)
    data, step = padded(mosaic)
    rgb = decode_image(HEIGHT, WIDTH, f"bayer_{pattern}{bits}", step, data)
    eight_bits = mosaic if bits == 8 else rounded(mosaic)
    expected = demosaicked(eight_bits, BAYER_ROWS[pattern])
    # Means of two or four samples; OpenCV rounds halves up, hence one step of tolerance. Borders are its own affair.
    inner = (slice(1, -1), slice(1, -1))
    assert np.abs(rgb[inner].astype(float) - expected[inner]).max() <= 0.5


def demosaicked(mosaic: np.ndarray, rows: tuple[str, str]) -> np.ndarray:
    """Every channel of every inner pixel as the mean of that colour's samples around it: the bilinear rule."""
    result = np.zeros((*mosaic.shape, 3))
    rings = ([(0, 0)], [(-1, 0), (1, 0), (0, -1), (0, 1)], [(-1, -1), (-1, 1), (1, -1), (1, 1)])
    for y in range(1, mosaic.shape[0] - 1):
        for x in range(1, mosaic.shape[1] - 1):
            for channel, colour in enumerate("rgb"):
                for ring in rings:  # the nearest ring that has the colour
                    found = [mosaic[y + dy, x + dx] for dy, dx in ring if rows[(y + dy) % 2][(x + dx) % 2] == colour]
                    if found:
                        result[y, x, channel] = np.mean(found)
                        break
    return result


def rgb_of_yuv(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """ITU-R BT.601, limited range."""
    luma, blue, red = 1.164 * (y.astype(float) - 16), u.astype(float) - 128, v.astype(float) - 128
    rgb = np.stack([luma + 1.596 * red, luma - 0.813 * red - 0.391 * blue, luma + 2.018 * blue], axis=-1)
    return np.clip(np.rint(rgb), 0, 255)


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_422_encodings_share_colour_between_pairs(encoding: str) -> None:
    y, u, v = samples((HEIGHT, WIDTH)) | 16, samples((HEIGHT, WIDTH // 2)), samples((HEIGHT, WIDTH // 2, 2))[..., 1]
    packed = np.empty((HEIGHT, WIDTH, 2), np.uint8)
    luma, chroma = (1, 0) if encoding in ("yuv422", "uyvy") else (0, 1)
    packed[..., luma] = y
    packed[:, 0::2, chroma], packed[:, 1::2, chroma] = u, v
    data, step = padded(packed.reshape(HEIGHT, -1))
    rgb = decode_image(HEIGHT, WIDTH, encoding, step, data)
    expected = rgb_of_yuv(y, np.repeat(u, 2, axis=1), np.repeat(v, 2, axis=1))
    assert np.abs(rgb - expected).max() <= 2  # OpenCV computes in fixed point


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_420_encodings_share_colour_between_blocks_of_four(encoding: str) -> None:
    y = samples((HEIGHT, WIDTH)) | 16
    pairs = samples((HEIGHT // 2, WIDTH // 2, 2))
    data, step = padded(np.concatenate([y, pairs.reshape(HEIGHT // 2, WIDTH)]))
    rgb = decode_image(HEIGHT, WIDTH, encoding, step, data)
    u, v = (pairs[..., 0], pairs[..., 1]) if encoding == "nv12" else (pairs[..., 1], pairs[..., 0])
    expected = rgb_of_yuv(y, *(np.repeat(np.repeat(plane, 2, axis=0), 2, axis=1) for plane in (u, v)))
    assert np.abs(rgb - expected).max() <= 2


def test_every_encoding_takes_every_kind_of_buffer() -> None:
    step = 32  # 4 pixels of the widest encoding, rgba16; padding for the others
    for encoding in ENCODINGS:
        data = b"\x80" * (step * (6 if encoding in ("nv12", "nv21") else 4))
        for buffer in (data, bytearray(data), array.array("B", data), np.frombuffer(data, np.uint8)):
            assert decode_image(4, 4, encoding, step, buffer).shape == (4, 4, 3)


def test_rgb8_is_a_view_without_a_copy_even_with_padding() -> None:
    pixels = samples((HEIGHT, WIDTH * 3 + 5))
    rgb = decode_image(HEIGHT, WIDTH, "rgb8", WIDTH * 3 + 5, pixels.reshape(-1))
    assert np.shares_memory(rgb, pixels)
    np.testing.assert_array_equal(rgb, pixels[:, :-5].reshape(HEIGHT, WIDTH, 3))


def test_the_last_row_may_lack_its_padding() -> None:
    data, step = padded(samples((HEIGHT, WIDTH * 3)))
    assert decode_image(HEIGHT, WIDTH, "bgr8", step, data[: -(step - WIDTH * 3)]).shape == (HEIGHT, WIDTH, 3)


def test_an_image_of_one_pixel_is_an_image() -> None:
    assert decode_image(1, 1, "bgr8", 3, b"\x01\x02\x03").tolist() == [[[3, 2, 1]]]


@pytest.mark.parametrize(
    ("height", "width", "encoding", "step", "size", "message"),
    [
        (6, 8, "32FC1", 32, 192, "encoding '32FC1' is not supported; expected one of: rgb8, bgr8"),
        (6, 8, "", 32, 192, "encoding '' is not supported"),
        (0, 8, "bgr8", 24, 0, "image is 8x0 bgr8: it has no pixels"),
        (6, 0, "bgr8", 0, 0, "image is 0x6 bgr8: it has no pixels"),
        (6, 8, "bgr8", 23, 138, "image is 8x6 bgr8 with step 23: expected at least 24 bytes a row"),
        (6, 8, "bgr8", 0, 144, "with step 0: expected at least 24 bytes a row"),
        (6, 8, "bgr8", 24, 100, "expected 144 bytes of data, got 100"),
        (6, 8, "bgr8", 24, 0, "expected 144 bytes of data, got 0"),
        (6, 8, "bgr8", 24, 200, "expected 144 bytes of data, got 200"),
        (6, 8, "mono16", 17, 102, "expected a multiple of 2 bytes"),
        (1, 1, "bayer_rggb8", 1, 1, "image is 1x1 bayer_rggb8: expected at least 3x3 pixels"),
        (6, 7, "yuv422", 14, 84, "image is 7x6 yuv422: expected an even width"),
        (5, 8, "nv12", 8, 60, "image is 8x5 nv12: expected an even width and height"),
        (6, 8, "nv12", 8, 48, "expected 72 bytes of data, got 48"),
        (1, 1, "nv21", 1, 1, "image is 1x1 nv21: expected at least 2x2 pixels"),
    ],
)
def test_an_image_that_does_not_fit_is_refused_in_one_line(
    height: int, width: int, encoding: str, step: int, size: int, message: str
) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(height, width, encoding, step, bytes(size))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_encodings_ask_for_cv_bridge_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_cv_bridge(name: str, *arguments: Any) -> Any:
        if name == "cv_bridge":
            raise ImportError("no cv_bridge")
        return real_import(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_cv_bridge)
    message = image_message(np.zeros((4, 4), np.float32), 0, "32FC1")
    with pytest.raises(
        ImageError, match=r"'32FC1' is not supported; expected one of: .*with ROS's cv_bridge installed"
    ):
        image_message_to_rgb(message)


def test_a_message_is_decoded_by_its_attributes() -> None:
    pixels = samples((HEIGHT, WIDTH, 3))
    np.testing.assert_array_equal(image_message_to_rgb(image_message(pixels, 0, "bgr8")), pixels[..., ::-1])


def test_png_comes_back_exactly_and_jpeg_nearly() -> None:
    rgb = cv2.GaussianBlur(samples((48, 64, 3)), (0, 0), 4)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    np.testing.assert_array_equal(decode_compressed(cv2.imencode(".png", bgr)[1].tobytes(), "png"), rgb)
    jpeg = decode_compressed(array.array("B", cv2.imencode(".jpg", bgr)[1].tobytes()), "rgb8; jpeg compressed bgr8")
    assert np.abs(jpeg.astype(int) - rgb).mean() < 3


def test_the_turn_that_a_camera_notes_in_exif_is_not_made() -> None:
    jpeg = cv2.imencode(".jpg", np.zeros((16, 32, 3), np.uint8))[1].tobytes()
    # An EXIF block with orientation 6 (a quarter turn) behind the start mark.
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    block = b"Exif\x00\x00" + tiff
    turned = jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (32, 16, 3)
    assert decode_compressed(turned, "jpeg").shape == (16, 32, 3)


@pytest.mark.parametrize(
    ("data", "format", "message"),
    [
        (b"", "jpeg", "compressed image ('jpeg') is empty"),
        (b"no picture at all", "jpeg", "it starts with 6e 6f 20 70 69 63 74 75, expected JPEG, PNG, TIFF"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "jpeg", "cannot be decoded: it is cut short or damaged"),
        (b"\x00" * 40, "16UC1; compressedDepth", "a depth image; expected a colour camera's topic"),
    ],
)
def test_a_compressed_image_that_cannot_be_decoded_says_why(data: bytes, format: str, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_compressed(data, format)
    assert message in str(caught.value)


def test_a_jpeg_cut_in_the_middle_is_refused() -> None:
    jpeg = cv2.imencode(".jpg", samples((48, 64, 3)))[1].tobytes()
    with pytest.raises(ImageError, match="cut short or damaged"):
        decode_compressed(jpeg[: len(jpeg) // 2], "jpeg")


@pytest.mark.parametrize("padding", [0, 100, 10_000])
def test_a_jpeg_with_padding_behind_it_is_whole(padding: int) -> None:
    jpeg = cv2.imencode(".jpg", samples((48, 64, 3)))[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(jpeg + bytes(padding), "jpeg"), decode_compressed(jpeg, "jpeg"))


def test_labels_come_back_as_ids() -> None:
    labels = samples((HEIGHT, WIDTH))
    data, step = padded(labels)
    np.testing.assert_array_equal(decode_label_image(HEIGHT, WIDTH, "mono8", step, data), labels)
    np.testing.assert_array_equal(decode_label_image(HEIGHT, WIDTH, "8UC1", step, data), labels)
    np.testing.assert_array_equal(decode_compressed_label(cv2.imencode(".png", labels)[1].tobytes()), labels)


def test_labels_in_other_forms_are_refused() -> None:
    with pytest.raises(ImageError, match="label image has encoding 'rgb8', expected one of: mono8, 8UC1"):
        decode_label_image(2, 2, "rgb8", 6, bytes(12))
    jpeg = cv2.imencode(".jpg", samples((8, 8)))[1].tobytes()
    with pytest.raises(ImageError, match="expected PNG"):
        decode_compressed_label(jpeg, "jpeg")
    colour = cv2.imencode(".png", samples((8, 8, 3)))[1].tobytes()
    with pytest.raises(ImageError, match="3 channels of uint8, expected 1"):
        decode_compressed_label(colour)
    wide = cv2.imencode(".png", samples((8, 8), np.uint16))[1].tobytes()
    with pytest.raises(ImageError, match="1 channels of uint16"):
        decode_compressed_label(wide)
