"""The real node in a real process, against a real publisher and subscriber over DDS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from test.seg_perception.node_process import ANSWER_S, START_S, Camera, NodeProcess, pixels
from test.seg_perception.node_services import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, change_state, set_parameter
from test.seg_perception.tiny_model import CLASS_NAMES, INPUT_SIZE, PALETTE, grid_cells, tiny_labels, write_tiny_model
from test.seg_perception.waiting import wait_until

TOPIC = "/camera/image_raw"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose answers can be worked out by hand."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def node(ros_environment: dict[str, str], model: Path) -> Iterator[NodeProcess]:
    """One active node for the tests that need no other parameters."""
    process = NodeProcess(ros_environment, model=model, image=TOPIC, diagnostics_period_s=0.2)
    process.wait_for("active: listening to")
    yield process
    assert process.alive, f"a test brought the node down: {process.lines[-20:]}"
    assert process.stop() == 0


@pytest.fixture
def camera(node: NodeProcess, ros_node: Any) -> Camera:
    """A camera whose images the node answers."""
    camera = Camera(ros_node, TOPIC)
    camera.connect()
    return camera


def picture(size: tuple[int, int] = INPUT_SIZE, seed: int = 0) -> np.ndarray:
    """A random RGB image."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def test_labels_are_the_models_with_the_cameras_header(camera):
    rgb = picture()
    message = camera.publish(rgb)
    answer = camera.answer(message)
    np.testing.assert_array_equal(pixels(answer), tiny_labels(rgb))
    assert answer.header == message.header
    assert (answer.encoding, answer.step, answer.width, answer.height) == ("mono8", 32, 32, 24)


def test_all_outputs_have_the_cameras_size(node, ros_node):
    camera = Camera(ros_node, TOPIC, outputs=("labels", "confidence", "superpixels", "overlay"))
    camera.connect()
    rgb = picture((48, 64))
    message = camera.publish(rgb)
    answers = {name: camera.answer(message, name) for name in camera.subscriptions}
    assert {name: (m.encoding, m.step) for name, m in answers.items()} == {
        "labels": ("mono8", 64),
        "confidence": ("mono8", 64),
        "superpixels": ("16UC1", 128),
        "overlay": ("rgb8", 192),
    }
    np.testing.assert_array_equal(pixels(answers["superpixels"]), grid_cells((48, 64)))
    labels = pixels(answers["labels"])
    overlay = np.frombuffer(answers["overlay"].data, np.uint8).reshape(48, 64, 3)
    expected = 0.5 * rgb + 0.5 * np.array(PALETTE)[labels]
    assert np.abs(overlay - expected).max() <= 1  # rounding


def test_the_image_size_may_change_in_mid_stream(camera):
    for size in (INPUT_SIZE, (48, 64), (1, 1), (7, 5), INPUT_SIZE):
        answer = camera.ask(picture(size))
        assert (answer.height, answer.width, answer.step) == (*size, size[1])


def set_encoding(message: Any) -> None:
    message.encoding = "32FC1"


def set_step(message: Any) -> None:
    message.step = 7


def cut_data(message: Any) -> None:
    message.data = message.data[:-100]


def set_zero(message: Any) -> None:
    message.height = message.width = message.step = 0
    message.data = b""


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (set_encoding, "encoding '32FC1' is not supported; expected one of: rgb8, bgr8"),
        (set_step, "step 7: expected at least 96 bytes a row"),
        (cut_data, "expected 2304 bytes of data, got 2204"),
        (set_zero, "image is 0x0 rgb8: it has no pixels"),
    ],
)
def test_a_bad_image_gets_one_clear_line_and_the_next_good_one_its_mask(camera, node, damage, expected):
    message = camera.message(picture())
    damage(message)
    for _ in range(5):
        camera.publisher.publish(message)
    line = node.wait_for(expected, timeout_s=ANSWER_S)
    assert f"{TOPIC}: image left out" in line
    rgb = picture(seed=1)
    np.testing.assert_array_equal(pixels(camera.ask(rgb)), tiny_labels(rgb))
    assert sum(expected in line for line in node.lines) == 1  # five bad images, one line


def test_label_info_reaches_late_subscribers(node, ros_node):
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import String

    received: list[Any] = []
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    try:
        from vision_msgs.msg import LabelInfo
    except ImportError:
        ros_node.create_subscription(String, "/segmentation/label_info", received.append, latched)
        wait_until(lambda: received, ANSWER_S, "label_info")
        names = [entry["class_name"] for entry in json.loads(received[0].data)["class_map"]]
    else:
        ros_node.create_subscription(LabelInfo, "/segmentation/label_info", received.append, latched)
        wait_until(lambda: received, ANSWER_S, "label_info")
        names = [entry.class_name for entry in received[0].class_map]
    assert names == list(CLASS_NAMES)


def test_diagnostics_tell_rates_latencies_and_engine(camera, ros_node):
    from diagnostic_msgs.msg import DiagnosticArray

    statuses: list[Any] = []
    ros_node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: statuses.extend(m.status), 10)

    def newest() -> dict[str, str]:
        camera.ask(picture())
        return {v.key: v.value for v in statuses[-1].values} if statuses else {}

    wait_until(lambda: float(newest().get("output_rate_hz", 0)) > 0, ANSWER_S, "an output rate")
    values = newest()
    assert statuses[-1].name == "/segmentation"
    assert values["lifecycle"] == "active"
    assert values["image_topic"] == TOPIC
    assert values["engine"].startswith(("openvino", "onnxruntime"))
    assert 0 < float(values["latency_p50_ms"]) <= float(values["latency_p99_ms"])


def test_live_parameters_change_and_others_are_refused_with_a_reason(node, ros_node):
    assert set_parameter(ros_node, "segmentation", "overlay_alpha", 0.25).successful
    too_much = set_parameter(ros_node, "segmentation", "overlay_alpha", 2.0)
    assert not too_much.successful
    assert "overlay_alpha" in too_much.reason
    structural = set_parameter(ros_node, "segmentation", "image_type", "raw")
    assert not structural.successful
    assert structural.reason == "parameter image_type takes effect at configure; deactivate and clean up the node first"
    assert set_parameter(ros_node, "segmentation", "overlay_alpha", 0.5).successful


def test_compressed_images_and_camera_info_pass(ros_environment, ros_node, model):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image

    topic = "/other/image_raw/compressed"
    process = NodeProcess(ros_environment, "other", model=model, image=topic, camera_info="/other/camera_info")
    try:
        process.wait_for("active: listening to")
        images = ros_node.create_publisher(CompressedImage, topic, qos_profile_sensor_data)
        infos = ros_node.create_publisher(CameraInfo, "/other/camera_info", qos_profile_sensor_data)
        labels: list[Any] = []
        passed: list[Any] = []
        ros_node.create_subscription(Image, "/other/labels", labels.append, 10)
        ros_node.create_subscription(CameraInfo, "/other/camera_info", passed.append, 10)
        rgb = picture()
        png = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
        message = CompressedImage(format="rgb8; png compressed bgr8", data=png)
        message.header.stamp.sec = 77
        info = CameraInfo(width=32, height=24)
        info.k[0] = 21.5

        def answered() -> bool:
            images.publish(message)
            infos.publish(info)
            try:
                wait_until(lambda: passed and labels, 0.3, "")
            except AssertionError:
                return False
            return True

        wait_until(answered, START_S, "labels and camera_info")
        assert labels[0].header == message.header
        np.testing.assert_array_equal(pixels(labels[0]), tiny_labels(rgb))
        assert (passed[0].width, passed[0].k[0]) == (32, 21.5)
        images.publish(CompressedImage(format="jpeg", data=b"\xff\xd8 cut"))
        process.wait_for("cannot be decoded: it is cut short or damaged")
        assert process.alive
    finally:
        assert process.stop() == 0


def test_a_node_goes_round_its_lifecycle_and_works_again(ros_environment, ros_node, model):
    process = NodeProcess(ros_environment, "cycling", model=model, image="/cycle/image", autostart=False)
    try:
        for _ in range(2):
            assert change_state(ros_node, "cycling", CONFIGURE)
            assert change_state(ros_node, "cycling", ACTIVATE)
            camera = Camera(ros_node, "/cycle/image", "cycling")
            camera.connect()
            rgb = picture()
            np.testing.assert_array_equal(pixels(camera.ask(rgb)), tiny_labels(rgb))
            assert change_state(ros_node, "cycling", DEACTIVATE)
            wait_until(lambda c=camera: c.publisher.get_subscription_count() == 0, ANSWER_S, "no subscription")
            assert change_state(ros_node, "cycling", CLEANUP)
    finally:
        assert process.stop() == 0


def test_a_wrong_model_or_parameter_leaves_the_node_up_and_can_be_put_right(ros_environment, ros_node, model, tmp_path):
    empty = tmp_path / "empty.onnx"
    empty.touch()
    process = NodeProcess(ros_environment, "mending", model=empty, image="/mend/image", threads=-1)
    try:
        line = process.wait_for("cannot configure:")
        assert "threads" in line
        assert "0 to 256" in line
        assert set_parameter(ros_node, "mending", "threads", 1).successful
        assert not change_state(ros_node, "mending", CONFIGURE)
        assert "empty.onnx" in process.wait_for("cannot configure:", count=2)
        assert set_parameter(ros_node, "mending", "model", str(model)).successful
        assert change_state(ros_node, "mending", CONFIGURE)
        assert change_state(ros_node, "mending", ACTIVATE)
        camera = Camera(ros_node, "/mend/image", "mending")
        camera.connect()
    finally:
        assert process.stop() == 0


def test_under_overload_the_newest_image_wins_and_drops_are_counted(ros_environment, ros_node, tmp_path):
    from diagnostic_msgs.msg import DiagnosticArray

    # large enough that one inference takes longer than the pause between two images
    slow = write_tiny_model(tmp_path / "slow.onnx", input_size=(1536, 2048), grid=None)
    process = NodeProcess(
        ros_environment, "busy", model=slow, image="/busy/image", engine="onnxruntime", diagnostics_period_s=0.2
    )
    try:
        process.wait_for("active: listening to")
        camera = Camera(ros_node, "/busy/image", "busy")
        camera.connect()
        statuses: list[Any] = []
        ros_node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: statuses.extend(m.status), 10)
        last = [camera.publish(picture(seed=i)) for i in range(60)][-1]
        same = pixels(camera.answer(last)) == tiny_labels(picture(seed=59))
        assert same.mean() > 0.95  # enlarged and brought back; another image would agree on a quarter
        assert len(camera.received["labels"]) < 60

        def dropped() -> int:
            mine = [s for s in statuses if s.name == "/busy"]
            return int({v.key: v.value for v in mine[-1].values}["dropped"]) if mine else 0

        wait_until(lambda: dropped() > 0, ANSWER_S, "dropped images in the diagnostics")
    finally:
        assert process.stop() == 0


def test_without_subscribers_nothing_is_segmented(ros_environment, ros_node, model):
    from diagnostic_msgs.msg import DiagnosticArray

    process = NodeProcess(ros_environment, "idle", model=model, image="/idle/image", diagnostics_period_s=0.2)
    try:
        process.wait_for("active: listening to")
        camera = Camera(ros_node, "/idle/image", "idle", outputs=())
        statuses: list[Any] = []
        ros_node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: statuses.extend(m.status), 10)

        def unheard() -> bool:
            camera.publish(picture())
            mine = [s for s in statuses if s.name == "/idle"]
            values = {v.key: v.value for v in mine[-1].values} if mine else {}
            assert int(values.get("published", 0)) == 0
            return int(values.get("nobody_listened", 0)) > 3

        wait_until(unheard, ANSWER_S, "images that nobody listened to")
    finally:
        assert process.stop() == 0
