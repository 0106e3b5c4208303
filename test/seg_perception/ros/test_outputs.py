"""What the real node makes of a model's classes and at which size: one node of the form `association` for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_perception.superpixel_labels import paint_superpixels
from test.seg_perception.node_process import ANSWER_S, Camera, NodeProcess, pixels
from test.seg_perception.node_services import call_trigger, set_parameter
from test.seg_perception.tiny_model import (
    GRID,
    INPUT_SIZE,
    PALETTE,
    grid_cells,
    tiny_labels,
    write_tiny_association_model,
    write_tiny_model,
)
from test.seg_perception.waiting import wait_until

NAME, TOPIC, INFO_TOPIC = "made", "/made/image", "/made/info_of_camera"
OUTPUTS = ("labels", "confidence", "superpixels", "superpixel_labels", "foreground", "overlay")
MERGED = np.array([0, 1, 0, 255], np.uint8)  # of the file: dark and green are cool, red is warm, yellow is left out
CLASSES = """
classes:
  cool: {of: [dark, green], color: [0, 0, 200]}
  warm: red
foreground: [warm]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "classes.yaml").write_text(CLASSES, encoding="utf-8")
    write_tiny_association_model(folder / "association.onnx")
    write_tiny_model(folder / "labels.onnx")
    return folder


@pytest.fixture(scope="module")
def node(ros_environment: dict[str, str], folder: Path) -> Iterator[NodeProcess]:
    process = NodeProcess(
        ros_environment,
        NAME,
        model=folder / "association.onnx",
        engine="onnxruntime",
        image=TOPIC,
        camera_info=INFO_TOPIC,
        classes=folder / "classes.yaml",
    )
    process.wait_for("active: listening to")
    yield process
    assert process.alive, f"a test brought the node down: {process.lines[-20:]}"
    assert process.stop() == 0


@pytest.fixture(scope="module")
def module_camera(node: NodeProcess, module_ros_node: Any) -> Camera:
    return Camera(module_ros_node, TOPIC, NAME, OUTPUTS)


@pytest.fixture
def camera(module_camera: Camera) -> Camera:
    """A camera all of whose outputs are heard."""
    module_camera.connect_again()
    return module_camera


def cells_image(seed: int = 0, size: tuple[int, int] = INPUT_SIZE) -> np.ndarray:
    """Of one colour a cell: uint8 [H, W, 3]."""
    colours = np.random.default_rng(seed).integers(0, 256, (*GRID, 3), np.uint8)
    return colours.reshape(-1, 3)[grid_cells(size)]


def cell_labels(rgb: np.ndarray) -> np.ndarray:
    """The model's classes of such an image, one a superpixel: uint8 [R, C]."""
    rows = (2 * np.arange(GRID[0]) + 1) * rgb.shape[0] // (2 * GRID[0])
    columns = (2 * np.arange(GRID[1]) + 1) * rgb.shape[1] // (2 * GRID[1])
    return tiny_labels(rgb[np.ix_(rows, columns)])


def change(ros_node: Any, parameter: str, value: Any) -> None:
    answer = set_parameter(ros_node, NAME, parameter, value)
    assert answer.successful, answer.reason


def test_classes_are_merged_and_all_masks_follow(camera):
    rgb = cells_image()
    message = camera.publish(rgb)
    masks = {name: pixels(camera.answer(message, name)) for name in OUTPUTS if name != "overlay"}
    expected = MERGED[tiny_labels(rgb)]
    assert set(np.unique(expected)) == {0, 1, 255}
    np.testing.assert_array_equal(masks["labels"], expected)
    np.testing.assert_array_equal(masks["foreground"], np.where(expected == 1, 255, 0))
    np.testing.assert_array_equal(masks["superpixel_labels"], MERGED[cell_labels(rgb)])
    np.testing.assert_array_equal(masks["superpixels"], grid_cells(INPUT_SIZE))
    # With one colour a cell, what is painted on the other side of a weak link is what the node paints.
    painted = paint_superpixels(masks["superpixels"], masks["superpixel_labels"])
    np.testing.assert_array_equal(painted, masks["labels"])
    palette = np.array([[0, 0, 200], PALETTE[1]])
    tinted = np.frombuffer(camera.answer(message, "overlay").data, np.uint8).reshape(*INPUT_SIZE, 3)
    colours = 0.5 * rgb + 0.5 * palette[np.where(expected == 255, 0, expected)]
    assert np.abs(tinted - np.where(expected[..., None] == 255, rgb, colours)).max() <= 1  # rounding


def test_label_info_names_the_robots_classes(node, ros_node):
    assert label_names(ros_node) == ["cool", "warm"]


def test_superpixel_labels_are_a_tiny_image_with_the_cameras_header(camera):
    message = camera.publish(cells_image(3, (96, 128)))
    answer = camera.answer(message, "superpixel_labels")
    assert (answer.encoding, answer.height, answer.width, answer.step) == ("mono8", *GRID, GRID[1])
    assert len(answer.data) == GRID[0] * GRID[1]
    assert answer.header == message.header


def test_superpixel_labels_alone_come_without_any_other_mask(node, ros_node):
    camera = Camera(ros_node, TOPIC, NAME, ("superpixel_labels",))
    camera.connect()
    rgb = cells_image(4)
    np.testing.assert_array_equal(pixels(camera.ask(rgb, "superpixel_labels")), MERGED[cell_labels(rgb)])


@pytest.mark.parametrize(("text", "size"), [("network", INPUT_SIZE), ("60x36", (36, 60)), ("camera", (48, 64))])
def test_masks_and_camera_info_have_the_size_that_is_asked_for(camera, ros_node, text, size):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CameraInfo

    change(ros_node, "output_size", text)
    rgb = cells_image(6, (48, 64))
    answers: dict[str, Any] = {}

    def all_of_that_size() -> bool:
        message = camera.publish(rgb)  # the parameter holds from the cycle after its answer
        answers.update({name: camera.answer(message, name) for name in OUTPUTS})
        return (answers["labels"].height, answers["labels"].width) == size

    wait_until(all_of_that_size, ANSWER_S, f"masks of the size {text}")
    for name in ("labels", "confidence", "superpixels", "foreground", "overlay"):
        assert (answers[name].height, answers[name].width) == size
    np.testing.assert_array_equal(pixels(answers["labels"]), MERGED[cell_labels(rgb)].reshape(-1)[grid_cells(size)])
    publisher = ros_node.create_publisher(CameraInfo, INFO_TOPIC, qos_profile_sensor_data)
    infos: list[Any] = []
    ros_node.create_subscription(CameraInfo, f"/{NAME}/camera_info", infos.append, 10)
    info = CameraInfo(height=48, width=64, k=[50.0, 0, 31.5, 0, 51.0, 23.5, 0, 0, 1])

    def passed() -> bool:
        publisher.publish(info)
        return bool(infos)

    wait_until(passed, ANSWER_S, "camera_info")
    assert (infos[0].height, infos[0].width) == size
    # The middle of the image stays the middle of the mask; focal lengths grow with the sides.
    assert infos[0].k[2] == pytest.approx((size[1] - 1) / 2)
    assert infos[0].k[5] == pytest.approx((size[0] - 1) / 2)
    assert (infos[0].k[0], infos[0].k[4]) == pytest.approx((50.0 * size[1] / 64, 51.0 * size[0] / 48))
    change(ros_node, "output_size", "camera")


def test_smoothing_takes_the_mean_of_a_still_view_and_ends_when_it_is_off(camera, ros_node):
    # Grey levels just below and above the step between two classes: nothing moves, but the class flickers.
    below, above = (np.full((*INPUT_SIZE, 3), value, np.uint8) for value in (127, 128))
    change(ros_node, "smoothing", 0.9)
    stamp = iter(range(1, 1000))

    def ask(rgb: np.ndarray) -> np.ndarray:
        """In steps of 0.1 s: to the smoother, one scene."""
        number = next(stamp)
        message = camera.publish(rgb, (5000 + number // 10, number % 10 * 100_000_000))
        return pixels(camera.answer(message))

    dark, yellow = MERGED[0], MERGED[3]
    wait_until(lambda: (ask(below) == dark).all(), ANSWER_S, "the first class")

    def held() -> bool:
        ask(below)
        return bool((ask(above) == dark).all())

    wait_until(held, ANSWER_S, "a class that one frame does not change")
    change(ros_node, "smoothing", 0.0)
    wait_until(lambda: (ask(above) == yellow).all(), ANSWER_S, "the frame's own class")


def test_other_classes_come_with_load_model_and_a_file_that_does_not_fit_changes_nothing(
    camera, node, ros_node, folder
):
    other = folder / "other.yaml"
    other.write_text("classes: {green things: green}\n", encoding="utf-8")
    broken = folder / "broken.yaml"
    broken.write_text("classes: {ground: floor}\n", encoding="utf-8")
    rgb = cells_image(8)
    try:
        change(ros_node, "classes", str(broken))
        answer = call_trigger(ros_node, NAME, "load_model")
        assert not answer.success
        assert "names 'floor', which is no class; near names: " in answer.message
        np.testing.assert_array_equal(pixels(camera.ask(rgb)), MERGED[tiny_labels(rgb)])
        assert label_names(ros_node) == ["cool", "warm"]
        change(ros_node, "classes", str(other))
        answer = call_trigger(ros_node, NAME, "load_model")
        assert answer.success, answer.message
        np.testing.assert_array_equal(pixels(camera.ask(rgb)), np.where(tiny_labels(rgb) == 2, 0, 255))
        assert label_names(ros_node) == ["green things"]
        assert ros_node.count_publishers(f"/{NAME}/foreground") == 0  # of a file that names none
    finally:
        change(ros_node, "classes", str(folder / "classes.yaml"))
        assert call_trigger(ros_node, NAME, "load_model").success


def test_pixels_and_superpixels_below_a_threshold_have_no_label(camera, ros_node, folder):
    # The model is sure by e / (e + 3) = 0.475 everywhere: enough for cool, not for warm.
    unsure = write_tiny_association_model(folder / "unsure.onnx", score=1.0)
    file = folder / "thresholds.yaml"
    file.write_text("classes: {cool: [dark, green, yellow], warm: {of: red, confidence: 0.6}}\n", encoding="utf-8")
    rgb = cells_image(5)
    expected = np.array([0, 255, 0, 0], np.uint8)
    try:
        change(ros_node, "classes", str(file))
        change(ros_node, "model", str(unsure))
        change(ros_node, "confidence_threshold", 0.4)
        assert call_trigger(ros_node, NAME, "load_model").success
        message = camera.publish(rgb)
        assert np.abs(pixels(camera.answer(message, "confidence")).astype(int) - 121).max() <= 1  # 255 * 0.475
        np.testing.assert_array_equal(pixels(camera.answer(message)), expected[tiny_labels(rgb)])
        np.testing.assert_array_equal(pixels(camera.answer(message, "superpixel_labels")), expected[cell_labels(rgb)])
        change(ros_node, "confidence_threshold", 0.5)  # takes effect without loading anything
        wait_until(lambda: (pixels(camera.ask(rgb)) == 255).all(), ANSWER_S, "no pixel that is sure enough")
        assert (pixels(camera.ask(rgb, "superpixel_labels")) == 255).all()
    finally:
        change(ros_node, "confidence_threshold", 0.0)
        change(ros_node, "model", str(folder / "association.onnx"))
        change(ros_node, "classes", str(folder / "classes.yaml"))
        assert call_trigger(ros_node, NAME, "load_model").success


def test_of_models_that_decide_by_pixels_superpixels_have_the_class_of_most(camera, node, ros_node, folder):
    try:
        change(ros_node, "smoothing", 0.5)
        change(ros_node, "model", str(folder / "labels.onnx"))
        assert call_trigger(ros_node, NAME, "load_model").success
        node.wait_for("parameter smoothing has no effect with model tiny: it is of the form labels", timeout_s=ANSWER_S)
        rgb = cells_image(9)
        rgb[:3] = 0  # three eighths of the first row's cells
        message = camera.publish(rgb)
        np.testing.assert_array_equal(pixels(camera.answer(message)), MERGED[tiny_labels(rgb)])
        np.testing.assert_array_equal(
            pixels(camera.answer(message, "superpixel_labels")), MERGED[cell_labels(cells_image(9))]
        )
        change(ros_node, "model", str(write_tiny_model(folder / "pixels.onnx", grid=None)))
        assert call_trigger(ros_node, NAME, "load_model").success
        for name in ("superpixels", "superpixel_labels"):
            topic = f"/{NAME}/{name}"
            wait_until(lambda t=topic: ros_node.count_publishers(t) == 0, ANSWER_S, f"no {name}")
        np.testing.assert_array_equal(pixels(camera.ask(rgb)), MERGED[tiny_labels(rgb)])
    finally:
        change(ros_node, "smoothing", 0.0)
        change(ros_node, "model", str(folder / "association.onnx"))
        assert call_trigger(ros_node, NAME, "load_model").success


def label_names(ros_node: Any) -> list[str]:
    """The newest label_info's names, as a late subscriber gets them."""
    import json

    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import String

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    received: list[Any] = []
    try:
        from vision_msgs.msg import LabelInfo
    except ImportError:
        ros_node.create_subscription(String, f"/{NAME}/label_info", received.append, latched)
        wait_until(lambda: received, ANSWER_S, "label_info")
        return [entry["class_name"] for entry in json.loads(received[-1].data)["class_map"]]
    ros_node.create_subscription(LabelInfo, f"/{NAME}/label_info", received.append, latched)
    wait_until(lambda: received, ANSWER_S, "label_info")
    return [entry.class_name for entry in received[-1].class_map]
