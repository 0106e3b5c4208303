"""Several cameras on the real node: topics, masks, errors and diagnostics of each, none at another's cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from seg_perception.bag.reader import open_bag
from test.seg_perception.node_diagnostics import Diagnostics
from test.seg_perception.node_process import ANSWER_S, Camera, NodeProcess, pixels
from test.seg_perception.node_services import (
    ACTIVATE,
    CLEANUP,
    CONFIGURE,
    DEACTIVATE,
    call_trigger,
    change_state,
    enable_camera,
    set_parameter,
)
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels, write_tiny_model
from test.seg_perception.waiting import wait_until

NAME = "robot"
BODY = np.arange(INPUT_SIZE[0])[:, None] + np.zeros(INPUT_SIZE) >= 20  # of the rear camera: its lowest rows


@pytest.fixture(scope="module")
def node(ros_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """Three cameras: front without a topic of its own, rear with a body mask, top disabled."""
    folder = tmp_path_factory.mktemp("cameras")
    cv2.imwrite(str(folder / "body.png"), BODY.astype(np.uint8) * 255)
    file = folder / "robot.yaml"
    file.write_text(
        f"""
/**:
  ros__parameters:
    cameras: [front, rear, top]
    rear:
      image: /robot_rear/image_raw
      body_mask: {folder / "body.png"}
    top:
      enabled: false
      overlay_alpha: 0.25
    model: {write_tiny_model(folder / "tiny.onnx")}
    diagnostics_period_s: 0.2
    capture_folder: {folder / "captures"}
""",
        encoding="utf-8",
    )
    defaults = Path(__file__).parents[3] / "config/segmentation.yaml"  # as somebody who copies the whole of it
    files = ("--params-file", str(defaults), "--params-file", str(file))
    process = NodeProcess(ros_environment, NAME, ros_arguments=files)
    process.wait_for("active: listening to /front/image, /robot_rear/image_raw")
    yield process
    assert process.alive, f"a test brought the node down: {process.lines[-20:]}"
    assert process.stop() == 0


def picture(seed: int = 0) -> np.ndarray:
    """A random RGB image."""
    return np.random.default_rng(seed).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def module_cameras(node: NodeProcess, module_ros_node: Any) -> tuple[Camera, Camera]:
    return (
        Camera(module_ros_node, "/front/image", f"{NAME}/front"),
        Camera(module_ros_node, "/robot_rear/image_raw", f"{NAME}/rear", outputs=("labels", "confidence")),
    )


@pytest.fixture
def front(module_cameras: tuple[Camera, Camera]) -> Camera:
    module_cameras[0].connect_again()
    return module_cameras[0]


@pytest.fixture
def rear(module_cameras: tuple[Camera, Camera]) -> Camera:
    module_cameras[1].connect_again()
    return module_cameras[1]


@pytest.fixture
def diagnostics(node: NodeProcess, ros_node: Any) -> Diagnostics:
    return Diagnostics(ros_node)


def values_of(diagnostics: Diagnostics, camera: str) -> dict[str, str]:
    """The newest values of a camera's status; waits for the first."""
    wait_until(lambda: diagnostics.values(f"/{NAME}: {camera}"), ANSWER_S, f"diagnostics of {camera}")
    return diagnostics.values(f"/{NAME}: {camera}")


def test_each_camera_has_its_own_masks_with_its_own_headers(front, rear):
    sent = [(camera, rgb, camera.publish(rgb)) for camera, rgb in ((front, picture(1)), (rear, picture(2)))]
    for camera, rgb, message in sent:
        answer = camera.answer(message)
        expected = tiny_labels(rgb)
        if camera is rear:
            expected[BODY] = 255
        np.testing.assert_array_equal(pixels(answer), expected)
        assert answer.header == message.header


def test_the_robots_body_has_no_confidence_either(rear):
    rgb = picture(7)
    confidence = pixels(rear.ask(rgb, "confidence"))
    np.testing.assert_array_equal(confidence, np.where(BODY, 0, rgb[..., 2]))


def test_a_bad_image_is_its_own_cameras_error_alone(front, rear, node, diagnostics):
    before = int(values_of(diagnostics, "rear")["failed"])
    message = front.message(picture())
    message.step = 5
    front.publisher.publish(message)
    line = node.wait_for("step 5: expected at least 96", timeout_s=ANSWER_S)
    assert "camera front: /front/image: image left out" in line
    wait_until(lambda: values_of(diagnostics, "front")["last_error"], ANSWER_S, "the error in the diagnostics")
    assert values_of(diagnostics, "rear")["last_error"] == ""
    assert int(values_of(diagnostics, "rear")["failed"]) == before
    rear.ask(picture(1))
    front.ask(picture(2))


def test_a_camera_that_is_dead_is_stale_alone(front, rear, diagnostics):
    def told() -> bool:
        rear.ask(picture())
        return diagnostics.level(f"/{NAME}: front") == 3 and diagnostics.level(f"/{NAME}: rear") == 0

    wait_until(told, ANSWER_S, "a stale front camera and a rear one that is well")
    assert "no image on /front/image for" in diagnostics.message(f"/{NAME}: front")


def test_a_disabled_camera_has_no_subscription_and_is_enabled_by_its_service(node, ros_node, diagnostics):
    top = Camera(ros_node, "/top/image", f"{NAME}/top")
    assert values_of(diagnostics, "top")["enabled"] == "false"
    assert diagnostics.message(f"/{NAME}: top") == "active; the camera is disabled"
    assert ros_node.count_subscribers("/top/image") == 0
    answer = enable_camera(ros_node, f"{NAME}/top", True)
    assert (answer.success, answer.message) == (True, "camera top is enabled")
    top.connect()
    rgb = picture(3)
    np.testing.assert_array_equal(pixels(top.ask(rgb)), tiny_labels(rgb))
    wait_until(lambda: values_of(diagnostics, "top")["enabled"] == "true", ANSWER_S, "the enabled camera")
    # and the other way round by the parameter
    assert set_parameter(ros_node, NAME, "top.enabled", False).successful
    wait_until(lambda: top.publisher.get_subscription_count() == 0, ANSWER_S, "no subscription")
    assert enable_camera(ros_node, f"{NAME}/top", False).success


def test_images_above_the_rate_limit_are_left_out_and_counted_apart(front, ros_node, diagnostics):
    assert set_parameter(ros_node, NAME, "front.max_rate_hz", 0.01).successful

    def dropped(key: str) -> int:
        return int(values_of(diagnostics, "front")[key])

    before, rear_before = dropped("dropped_by_rate_limit"), values_of(diagnostics, "rear")["dropped_by_rate_limit"]

    def counted() -> bool:
        front.publish(picture())
        return dropped("dropped_by_rate_limit") >= before + 5

    try:
        wait_until(counted, ANSWER_S, "images that the rate limit left out")
        assert values_of(diagnostics, "rear")["dropped_by_rate_limit"] == rear_before
    finally:
        assert set_parameter(ros_node, NAME, "front.max_rate_hz", 0.0).successful
    front.connect()  # answers without the limit


def test_cameras_follow_the_plain_parameter_unless_they_have_their_own(node, ros_node):
    assert get_parameter(ros_node, "front.overlay_alpha") == 0.5
    assert set_parameter(ros_node, NAME, "overlay_alpha", 0.75).successful
    wait_until(lambda: get_parameter(ros_node, "front.overlay_alpha") == 0.75, ANSWER_S, "front to follow")
    assert get_parameter(ros_node, "top.overlay_alpha") == 0.25
    refused = set_parameter(ros_node, NAME, "front.overlay_alpha", 3.0)
    assert not refused.successful
    assert "front.overlay_alpha" in refused.reason
    structural = set_parameter(ros_node, NAME, "rear.image", "/elsewhere")
    assert structural.reason == "parameter rear.image takes effect at configure; deactivate and clean up the node first"


def test_another_model_serves_all_cameras_and_a_refused_one_none(node, ros_node, front, rear, tmp_path):
    other = write_tiny_model(tmp_path / "other.onnx", grid=None)
    broken = write_tiny_model(tmp_path / "broken.onnx")
    assert ros_node.count_publishers(f"/{NAME}/front/superpixels") == 1
    assert set_parameter(ros_node, NAME, "model", str(other)).successful
    assert call_trigger(ros_node, NAME, "load_model").success
    for camera in (front, rear):
        wait_until(
            lambda c=camera: ros_node.count_publishers(f"/{c.name}/superpixels") == 0, ANSWER_S, "no superpixels"
        )
        camera.ask(picture(4))
    assert set_parameter(ros_node, NAME, "model", str(broken)).successful
    broken.write_bytes(broken.read_bytes()[:-2000])
    refused = call_trigger(ros_node, NAME, "load_model")
    assert not refused.success
    assert get_parameter(ros_node, "model") == str(other)
    for camera in (front, rear):
        camera.ask(picture(5))


def test_a_capture_holds_what_all_cameras_took_in_and_gave_out(node, ros_node, front, rear):
    assert set_parameter(ros_node, NAME, "capture_mb", 50).successful
    try:
        front.ask(picture())  # the parameter takes effect in the cycle after its answer
        topics = captured(ros_node, front, rear)
        assert {"/front/image", "/robot_rear/image_raw"} <= topics
        assert {f"/{NAME}/front/labels", f"/{NAME}/rear/labels", f"/{NAME}/rear/confidence"} <= topics
        assert {f"/{NAME}/front/label_info", f"/{NAME}/rear/label_info", "/diagnostics"} <= topics
    finally:
        assert set_parameter(ros_node, NAME, "capture_mb", 0).successful


def captured(ros_node: Any, *cameras: Camera) -> set[str]:
    """The topics in a capture that is saved after each camera had an image."""
    for camera in cameras:
        camera.ask(picture(6))
    time.sleep(0.3)  # diagnostics come every 0.2 s
    answer = call_trigger(ros_node, NAME, "save_capture")
    assert answer.success, answer.message
    with open_bag(answer.message.partition(": ")[0]) as bag:
        return set(bag.topics())


def test_cameras_change_with_the_parameter_and_bad_names_are_refused(node, ros_node, front):
    assert not set_parameter(ros_node, NAME, "cameras", ["front"]).successful  # not while it is configured
    assert change_state(ros_node, NAME, DEACTIVATE)
    assert change_state(ros_node, NAME, CLEANUP)
    for names in (
        ["front", "front"],
        ["a b"],
        ["1st"],
        ["qos_overrides"],
        [f"c{i}" for i in range(17)],
        [1, 2],
        "front",
    ):
        answer = set_parameter(ros_node, NAME, "cameras", names)
        assert not answer.successful
        assert "expected up to 16 different names such as [front, rear]" in answer.reason
    assert set_parameter(ros_node, NAME, "front.stale_after_s", 7.0).successful
    assert set_parameter(ros_node, NAME, "cameras", ["front", "rear", "left"]).successful
    assert set_parameter(ros_node, NAME, "left.image", "/left/raw").successful
    assert not set_parameter(ros_node, NAME, "left.image", "no topic!").successful
    assert set_parameter(ros_node, NAME, "rear.body_mask", "/nowhere/body.png").successful
    assert not change_state(ros_node, NAME, CONFIGURE)
    node.wait_for("cannot configure: body mask /nowhere/body.png cannot be read: No such file or directory")
    assert set_parameter(ros_node, NAME, "rear.body_mask", "").successful
    assert change_state(ros_node, NAME, CONFIGURE)
    assert change_state(ros_node, NAME, ACTIVATE)
    node.wait_for("active: listening to /front/image, /robot_rear/image_raw, /left/raw")
    assert get_parameter(ros_node, "front.stale_after_s") == 7.0  # what stays keeps what was set for it
    left = Camera(ros_node, "/left/raw", f"{NAME}/left")
    left.connect()
    rgb = picture(9)
    np.testing.assert_array_equal(pixels(left.ask(rgb)), tiny_labels(rgb))


def test_what_is_wrong_at_the_start_is_one_line_and_can_be_put_right(ros_environment, ros_node, tmp_path):
    model = write_tiny_model(tmp_path / "tiny.onnx")
    wrong = {"left.max_rate_hz": -1.0, "left.output_size": "big", "left.image": "''"}
    process = NodeProcess(ros_environment, "wrong", model=model, cameras="left", **wrong)
    try:
        line = process.wait_for("cannot configure: ")
        assert "parameter cameras is 'left', expected up to 16 different names such as [front, rear]" in line
        assert set_parameter(ros_node, "wrong", "cameras", ["left"]).successful
        assert not change_state(ros_node, "wrong", CONFIGURE)
        line = process.wait_for("cannot configure: ", count=2)
        assert "left.max_rate_hz" in line
        assert "expected float, 0 to 1000" in line
        assert "parameter left.output_size is 'big', expected camera, network, or WIDTHxHEIGHT" in line
        assert set_parameter(ros_node, "wrong", "left.max_rate_hz", 1.0).successful
        assert set_parameter(ros_node, "wrong", "left.output_size", "8x8").successful
        assert not change_state(ros_node, "wrong", CONFIGURE)
        line = process.wait_for("cannot configure: ", count=3)
        assert "parameter left.image is empty, expected the topic of the camera images" in line
        assert set_parameter(ros_node, "wrong", "left.image", "image").successful
        assert change_state(ros_node, "wrong", CONFIGURE)
    finally:
        assert process.stop() == 0


def test_under_overload_a_fast_camera_gets_no_more_than_a_slow_one(ros_environment, ros_node, tmp_path):
    # One inference takes ten milliseconds and more, and even the slow camera sends hundreds of images a second.
    model = write_tiny_model(tmp_path / "large.onnx", input_size=(768, 1024), grid=None)
    process = NodeProcess(ros_environment, "busy_pair", model=model, engine="onnxruntime", cameras="[fast, slow]")
    try:
        process.wait_for("active: listening to")
        fast, slow = (Camera(ros_node, f"/{name}/image", f"busy_pair/{name}") for name in ("fast", "slow"))
        for camera in (fast, slow):
            camera.connect()
        before = [len(camera.received["labels"]) for camera in (fast, slow)]

        def answers() -> list[int]:
            return [len(c.received["labels"]) - b for c, b in zip((fast, slow), before, strict=True)]

        def enough() -> bool:
            for camera in (fast, fast, fast, slow):
                camera.publish(picture())
            return answers()[1] >= 12

        wait_until(enough, ANSWER_S, "answers to the slow camera")
        of_fast, of_slow = answers()
        assert of_fast <= 1.5 * of_slow + 3, (
            of_fast,
            of_slow,
        )  # by their turn, not by their number: that would be three times
        stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in fast.received["labels"]]
        assert stamps == sorted(stamps)
    finally:
        assert process.stop() == 0


def get_parameter(ros_node: Any, parameter: str) -> Any:
    """A parameter's value, as `ros2 param get` shows it."""
    from rcl_interfaces.srv import GetParameters
    from rclpy.parameter import parameter_value_to_python

    client = ros_node.create_client(GetParameters, f"/{NAME}/get_parameters")
    assert client.wait_for_service(timeout_sec=ANSWER_S)
    future = client.call_async(GetParameters.Request(names=[parameter]))
    wait_until(future.done, ANSWER_S, f"the value of {parameter}")
    return parameter_value_to_python(future.result().values[0])
