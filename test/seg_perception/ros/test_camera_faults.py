"""What cameras do on bad days, to one real node; after each of them the next good image has its mask."""

from __future__ import annotations

import math
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from test.seg_perception.cdr_bytes import Bytes
from test.seg_perception.node_diagnostics import Diagnostics, figures
from test.seg_perception.node_process import ANSWER_S, START_S, Camera, NodeProcess, pixels
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels, write_tiny_model
from test.seg_perception.waiting import wait_until

NAME, TOPIC = "tried", "/tried/image"
PICTURE = np.random.default_rng(0).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose answers can be worked out by hand."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "m.onnx")


@pytest.fixture(scope="module")
def process(ros_environment: dict[str, str], model: Path) -> Iterator[NodeProcess]:
    """The node that has to bear it all."""
    process = NodeProcess(
        ros_environment,
        NAME,
        model=model,
        image=TOPIC,
        camera_info="/tried/camera_info",
        engine="onnxruntime",
        diagnostics_period_s=0.2,
        stale_after_s=1.0,
    )
    process.wait_for("active: listening to")
    yield process
    assert process.alive, process.lines[-20:]
    assert process.stop() == 0
    assert not [line for line in process.lines if "Traceback" in line or "unexpected" in line]


@pytest.fixture(scope="module")
def spun(ros_context: Any) -> Iterator[Any]:
    """A node for all tests of the file: finding each other is what takes time."""
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    node = Node("camera_side", context=ros_context)
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join(timeout=10)
    node.destroy_node()


@pytest.fixture(scope="module")
def camera(process: NodeProcess, spun: Any) -> Camera:
    """A camera whose images the node answers."""
    camera = Camera(spun, TOPIC, NAME)
    camera.connect()
    return camera


@pytest.fixture(scope="module")
def diagnostics(process: NodeProcess, spun: Any) -> Diagnostics:
    """What the node says of itself."""
    return Diagnostics(spun)


def assert_serves(camera: Camera) -> None:
    np.testing.assert_array_equal(pixels(camera.ask(PICTURE)), tiny_labels(PICTURE))


def test_encoding_size_and_frame_may_change_from_image_to_image(camera):
    larger = cv2.resize(PICTURE, (2 * INPUT_SIZE[1], 2 * INPUT_SIZE[0]), interpolation=cv2.INTER_NEAREST)
    for number, rgb in enumerate([PICTURE, larger] * 3):
        message = camera.message(rgb)
        message.header.frame_id = f"frame_{number}"
        if number % 2:
            message.encoding = "bgr8"
            message.data = rgb[..., ::-1].tobytes()
        camera.publisher.publish(message)
        answer = camera.answer(message)
        assert answer.header == message.header
        assert (answer.height, answer.width) == rgb.shape[:2]
        np.testing.assert_array_equal(
            pixels(answer)[:: rgb.shape[0] // 24, :: rgb.shape[1] // 32], tiny_labels(PICTURE)
        )


def test_of_two_cameras_on_one_topic_every_mask_is_of_one_image_and_none_comes_twice(camera, spun):
    second = Camera(spun, TOPIC, NAME)
    second.connect()
    sent = []
    for number in range(30):
        for frame, each in (("left", camera), ("right", second)):
            message = each.message(PICTURE, stamp=(2000, number))
            message.header.frame_id = frame
            each.publisher.publish(message)
            sent.append((frame, number))
        time.sleep(0.01)
    spun.destroy_publisher(second.publisher)
    assert_serves(camera)  # what comes after them all is answered last
    answered = [
        (m.header.frame_id, m.header.stamp.nanosec) for m in camera.received["labels"] if m.header.stamp.sec == 2000
    ]
    assert len(answered) == len(set(answered))
    assert set(answered) <= set(sent)
    assert {frame for frame, _ in answered} == {"left", "right"}


@pytest.mark.parametrize(
    "stamps",
    [
        [(5000, 0), (5001, 0), (10, 0), (11, 0)],  # a recording that starts again
        [(100, 0), (2_000_000_000, 0), (101, 0)],  # a clock set forward, and back
        [(0, 0), (0, 0), (0, 0)],  # a driver that fills in none
        [(50, 999_999_999), (2_147_483_647, 4_294_967_295)],  # the ends of the range, and no nanoseconds at all
    ],
)
def test_stamps_of_any_kind_come_back_as_they_were(process, camera, stamps):
    before = len(process.lines)
    for stamp in stamps:
        camera.received["labels"].clear()
        message = camera.publish(PICTURE, stamp)
        assert camera.answer(message).header == message.header
    assert_serves(camera)
    assert not [line for line in process.lines[before:] if "image left out" in line]


def image_of(height: int, width: int, step: int, data: bytes) -> bytes:
    """A serialized Image whose fields no message class would check."""
    message = Bytes("<")
    message.header(b"camera")
    message.number("I", height)
    message.number("I", width)
    message.string(b"rgb8")
    message.number("B", 0)
    message.number("I", step)
    message.sequence(data)
    return message.message()


@pytest.mark.parametrize(
    ("serialized", "said"),
    [
        (
            image_of(2**32 - 1, 2**32 - 1, 2**32 - 1, b"1234"),
            "image is 4294967295x4294967295 rgb8 with step 4294967295",
        ),
        (image_of(1, 2**31, 96, bytes(96)), "image is 2147483648x1 rgb8 with step 96"),
        (image_of(24, 32, 96, bytes(24 * 96))[:-7], "cut short: data needs 2304 bytes"),
        (b"\0\1\0\0" + struct.pack("<iII", 1, 1, 2**32 - 1), "cut short: header.frame_id needs 4294967295 bytes"),
    ],
    ids=["all of 32 bits", "more than there is", "cut", "a text of 4 GB"],
)
def test_sizes_that_cannot_be_are_refused_unseen(process, camera, diagnostics, serialized, said):
    memory_mb = figures(process.process.pid).memory_mb

    def is_told() -> bool:
        camera.publisher.publish(serialized)  # again: a newer image takes the place of one that waits
        time.sleep(0.05)
        return said in diagnostics.values(f"/{NAME}").get("last_error", "")

    wait_until(is_told, ANSWER_S, said)
    assert_serves(camera)
    assert figures(process.process.pid).memory_mb < memory_mb + 100
    assert sum(said in line for line in process.lines) <= 4  # one in ten seconds


def test_a_long_thin_picture_has_its_mask(camera):
    for size in ((1, 50_000), (50_000, 1)):
        answer = camera.ask(np.zeros((*size, 3), np.uint8))
        assert (answer.height, answer.width) == size


def test_a_calibration_of_no_numbers_passes_as_it_came_and_harms_no_mask(camera, spun):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CameraInfo

    passed: list[Any] = []
    spun.create_subscription(CameraInfo, f"/{NAME}/camera_info", passed.append, 10)
    publisher = spun.create_publisher(CameraInfo, "/tried/camera_info", qos_profile_sensor_data)
    info = CameraInfo(width=7, height=0, d=[math.nan] * 5)
    info.k[0] = info.p[0] = math.nan

    def came() -> bool:
        publisher.publish(info)
        assert_serves(camera)
        return bool(passed)

    wait_until(came, START_S, "the calibration")
    assert math.isnan(passed[0].k[0])
    assert len(passed[0].d) == 5
    assert (passed[0].width, passed[0].height) == (7, 0)


def test_a_camera_that_stops_is_told_and_one_that_comes_back_is_served(spun, camera, diagnostics):
    assert_serves(camera)
    spun.destroy_publisher(camera.publisher)
    wait_until(lambda: diagnostics.level(f"/{NAME}") == 3, ANSWER_S, "STALE in the diagnostics")
    assert f"no image on {TOPIC} for" in diagnostics.message(f"/{NAME}")
    again = Camera(spun, TOPIC, NAME)
    again.connect()

    def is_well() -> bool:
        assert_serves(again)
        return diagnostics.level(f"/{NAME}") == 0

    wait_until(is_well, ANSWER_S, "OK in the diagnostics")


def test_damaged_pictures_are_left_out_and_whole_ones_go_on(ros_environment, ros_node, model):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CompressedImage, Image

    topic = "/squeezed/image/compressed"
    process = NodeProcess(ros_environment, "squeezed", model=model, image=topic, engine="onnxruntime")
    try:
        process.wait_for("active: listening to")
        publisher = ros_node.create_publisher(CompressedImage, topic, qos_profile_sensor_data)
        labels: list[Any] = []
        ros_node.create_subscription(Image, "/squeezed/labels", labels.append, 10)
        jpeg = cv2.imencode(".jpg", PICTURE)[1].tobytes()
        png = cv2.imencode(".png", PICTURE)[1].tobytes()
        stamp = 0

        def send(data: bytes, kind: str) -> int:
            nonlocal stamp
            stamp += 1
            message = CompressedImage(format=kind, data=data)
            message.header.stamp.sec = stamp
            publisher.publish(message)
            return stamp

        def answered(number: int) -> bool:
            return any(message.header.stamp.sec == number for message in labels)

        wait_until(lambda: labels or (send(png, "png") and time.sleep(0.1)), START_S, "a first mask")
        for _ in range(10):
            for data in (jpeg[: len(jpeg) // 2], b"", png[:60], png.replace(b"IDAT", b"JDAT"), b"\xff\xd8\xff\xd9"):
                send(data, "jpeg")
                time.sleep(0.005)
        last = send(png, "png")
        wait_until(lambda: answered(last), ANSWER_S, "the mask of a whole picture")
        said = [line for line in process.lines if "image left out" in line]
        assert 1 <= len(said) <= 5  # one a kind
        assert len(process.lines) < 20  # and nothing of the libraries beneath
    finally:
        assert process.stop() == 0
