"""Every encoding, byte order and padding over DDS, and image_transport's topics: one real node for all."""

from __future__ import annotations

import array
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from seg_perception.images import ENCODINGS
from test.seg_perception.node_process import ANSWER_S, START_S, Camera, NodeProcess, pixels
from test.seg_perception.node_services import ACTIVATE, CONFIGURE, change_state, set_parameter
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels, write_tiny_model
from test.seg_perception.waiting import wait_until

NAME = "taking"
HEIGHT, WIDTH = INPUT_SIZE
PADDING = 6  # bytes behind each row
QUADRANTS = ((0, 0), (0, 1), (1, 0), (1, 1))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def node(ros_environment: dict[str, str], model: Path) -> Iterator[NodeProcess]:
    """A raw camera by image_transport's name, a compressed one by its name, and one whose name says nothing."""
    parameters: dict[str, Any] = {
        "cameras": "[raw, jpeg, named]",
        "raw.image": "/taken/image_raw",
        "jpeg.image": "/taken/image_raw/compressed",
        "named.image": "/taken/pictures",
        "named.image_type": "compressed",
        "model": model,
    }
    process = NodeProcess(ros_environment, NAME, **parameters)
    process.wait_for("active: listening to")
    yield process
    assert process.alive, f"a test brought the node down: {process.lines[-20:]}"
    assert process.stop() == 0


@pytest.fixture
def camera(node: NodeProcess, ros_node: Any) -> Camera:
    camera = Camera(ros_node, "/taken/image_raw", f"{NAME}/raw")
    camera.connect()
    return camera


def quadrants(colours: list[tuple[int, int, int]]) -> np.ndarray:
    """An image of four fields of one colour each: uint8 [H, W, 3]."""
    rows = np.arange(HEIGHT)[:, None] * 2 // HEIGHT
    columns = np.arange(WIDTH)[None] * 2 // WIDTH
    return np.array(colours, np.uint8)[2 * rows + columns]


COLOURS = quadrants([(20, 30, 90), (250, 20, 30), (20, 230, 40), (240, 230, 30)])  # dark, red, green, yellow
GREYS = quadrants([(20,) * 3, (250,) * 3, (90,) * 3, (180,) * 3])


def encoded(encoding: str, big_endian: bool) -> tuple[np.ndarray, np.ndarray]:
    """COLOURS or GREYS in an encoding, written here from the encoding's definition.

    Returns:
        rows of samples [rows, samples], and the picture as RGB.
    """
    wide = np.dtype(">u2" if big_endian else "<u2")
    if encoding in ("mono8", "8UC1"):
        return GREYS[..., 0], GREYS
    if encoding == "mono16":
        return (GREYS[..., 0].astype(np.uint16) * 257).astype(wide), GREYS
    if encoding.startswith("bayer"):
        places = ["rgb".index(letter) for letter in encoding[6:10]]
        plane = np.empty((HEIGHT, WIDTH), np.uint8)
        for place, (row, column) in enumerate(QUADRANTS):
            plane[row::2, column::2] = COLOURS[row::2, column::2, places[place]]
        return (plane if encoding.endswith("8") else (plane.astype(np.uint16) * 257).astype(wide)), COLOURS
    if encoding in ("nv12", "nv21", "yuv422", "uyvy", "yuv422_yuy2", "yuyv"):
        return _yuv(encoding), COLOURS
    order = {"8UC3": "bgr", "8UC4": "bgra"}.get(encoding, encoding.rstrip("0123456789"))
    alpha = np.full((HEIGHT, WIDTH), 7, np.uint8)
    planes = {"r": COLOURS[..., 0], "g": COLOURS[..., 1], "b": COLOURS[..., 2], "a": alpha}
    samples = np.stack([planes[letter] for letter in order], -1).reshape(HEIGHT, -1)
    return ((samples.astype(np.uint16) * 257).astype(wide) if encoding.endswith("16") else samples), COLOURS


def _yuv(encoding: str) -> np.ndarray:
    """ITU-R BT.601, limited range: two pixels of a row share their colour, in nv12 and nv21 two rows as well."""
    red, green, blue = (COLOURS[..., channel].astype(float) for channel in range(3))
    y = np.rint(16 + 0.257 * red + 0.504 * green + 0.098 * blue).astype(np.uint8)
    u = np.rint(128 - 0.148 * red - 0.291 * green + 0.439 * blue).astype(np.uint8)
    v = np.rint(128 + 0.439 * red - 0.368 * green - 0.071 * blue).astype(np.uint8)
    if encoding in ("nv12", "nv21"):
        pair = (u, v) if encoding == "nv12" else (v, u)
        return np.concatenate([y, np.stack([plane[::2, ::2] for plane in pair], -1).reshape(HEIGHT // 2, WIDTH)])
    colour_first = encoding in ("yuv422", "uyvy")
    packed = np.empty((HEIGHT, WIDTH, 2), np.uint8)
    packed[..., 1 if colour_first else 0] = y
    packed[:, ::2, 0 if colour_first else 1] = u[:, ::2]
    packed[:, 1::2, 0 if colour_first else 1] = v[:, ::2]
    return packed.reshape(HEIGHT, -1)


def inner(labels: np.ndarray) -> np.ndarray:
    """Without the pixels at the borders of the fields, where demosaicking mixes colours."""
    far = [np.abs(np.arange(n) - (n - 1) / 2) > 2 for n in labels.shape]
    return labels[np.ix_(*far)]


def test_an_image_of_every_encoding_byte_order_and_padding_gets_its_mask(camera):
    for encoding, big_endian in itertools.product(ENCODINGS, (False, True)):
        rows, rgb = encoded(encoding, big_endian)
        padded = np.zeros((rows.shape[0], rows.nbytes // rows.shape[0] + PADDING), np.uint8)
        padded[:, :-PADDING] = np.ascontiguousarray(rows).view(np.uint8)
        message = camera.message(rgb)
        message.encoding, message.is_bigendian, message.step = encoding, int(big_endian), padded.shape[1]
        message.data = array.array("B", padded.tobytes())
        camera.publisher.publish(message)
        answer = camera.answer(message)
        said = f"{encoding}, {'big' if big_endian else 'little'}-endian"
        assert (answer.height, answer.width, answer.step) == (HEIGHT, WIDTH, WIDTH), said
        np.testing.assert_array_equal(inner(pixels(answer)), inner(tiny_labels(rgb)), err_msg=said)


def test_every_encoding_of_the_contract_is_among_them():
    contract = (
        "bgr8 rgb8 bgra8 rgba8 mono8 mono16 bayer_rggb8 bayer_bggr8 bayer_gbrg8 bayer_grbg8 yuv422 yuv422_yuy2 nv12"
    )
    assert set(contract.split()) <= set(ENCODINGS)


@pytest.mark.parametrize(
    ("camera_name", "topic", "form"),
    [
        ("jpeg", "/taken/image_raw/compressed", "rgb8; png compressed bgr8"),  # as image_transport writes it
        ("named", "/taken/pictures", "png"),
    ],
)
def test_compressed_images_are_taken_by_the_topics_name_or_by_the_parameter(node, ros_node, camera_name, topic, form):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CompressedImage, Image

    publisher = ros_node.create_publisher(CompressedImage, topic, qos_profile_sensor_data)
    received: list[Any] = []
    ros_node.create_subscription(Image, f"/{NAME}/{camera_name}/labels", received.append, 10)
    png = cv2.imencode(".png", cv2.cvtColor(COLOURS, cv2.COLOR_RGB2BGR))[1].tobytes()

    def answered() -> bool:
        publisher.publish(CompressedImage(format=form, data=png))
        try:
            wait_until(lambda: received, 0.3, "")
        except AssertionError:
            return False
        return True

    wait_until(answered, START_S, "labels of a compressed image")
    np.testing.assert_array_equal(pixels(received[0]), tiny_labels(COLOURS))


def test_a_topic_of_another_transport_is_refused_with_what_to_do(ros_environment, ros_node, model):
    process = NodeProcess(ros_environment, "transported", model=model, image="/taken/image_raw/theora")
    try:
        line = process.wait_for("cannot configure")
        assert "a topic of image_transport's theora, expected one of raw or compressed images" in line
        assert "such as /taken/image_raw or /taken/image_raw/compressed" in line
        assert set_parameter(ros_node, "transported", "image", "/taken/image_raw").successful
        assert change_state(ros_node, "transported", CONFIGURE)
        assert change_state(ros_node, "transported", ACTIVATE)
        wait_until(lambda: ros_node.count_subscribers("/taken/image_raw") > 0, ANSWER_S, "the subscription")
    finally:
        assert process.stop() == 0
