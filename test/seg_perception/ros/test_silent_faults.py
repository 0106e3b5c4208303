"""What used to fail without a word: topics that do not match, wrong overrides, stamps before 1970, parameters ignored."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test.seg_perception.node_diagnostics import Diagnostics
from test.seg_perception.node_process import ANSWER_S, START_S, Camera, NodeProcess, pixels
from test.seg_perception.node_services import set_parameter
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels, write_tiny_model
from test.seg_perception.waiting import wait_until

PICTURE = np.random.default_rng(0).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)
WARN, ERROR, STALE = 1, 2, 3
QUIET_S = 1.0  # in which what must not come does not come


@pytest.fixture
def quick(started: Callable[..., NodeProcess], tmp_path: Path) -> Callable[..., NodeProcess]:
    """Starts nodes whose diagnostics come often; does not wait for them."""

    def start(name: str, **parameters: Any) -> NodeProcess:
        model = write_tiny_model(tmp_path / "m.onnx")
        values: dict[str, Any] = {"diagnostics_period_s": 0.2, "stale_after_s": 1.0, **parameters}
        return started(name, wait=False, model=model, **values)

    return start


@pytest.mark.parametrize(
    ("override", "value", "said"),
    [
        ("/odd/image.subscription.reliability", "fast", "cannot activate: the subscription of topic /odd/image"),
        ("/odd/image.subscription.depth", -3, "cannot activate: the subscription of topic /odd/image cannot be made"),
        ("/odd/image.subscription.depth", 99999999999, "cannot activate: the subscription of topic /odd/image"),
        ("/odd/labels.publisher.reliability", "fast", "cannot configure: the publisher of topic /odd/labels"),
        ("/odd/label_info.publisher.depth", "many", "cannot configure: the publisher of topic /odd/label_info"),
    ],
)
def test_an_override_that_ros_does_not_know_is_named(quick, ros_node, override, value, said):
    process = quick("odd", **{f"qos_overrides.{override}": value})
    diagnostics = Diagnostics(ros_node)
    line = process.wait_for(said)
    assert f"put right qos_overrides.{override.rpartition('.')[0]} where the node is started" in line
    wait_until(lambda: diagnostics.level("/odd") == ERROR, ANSWER_S, "ERROR in the diagnostics")
    assert said.split(": ")[1] in diagnostics.message("/odd")


def test_a_camera_that_offers_less_than_the_node_asks_for_is_told_once_with_both_sides(quick, ros_node):
    process = quick("strict", **{"qos_overrides./strict/image.subscription.reliability": "reliable"})
    process.wait_for("active: listening to")
    diagnostics = Diagnostics(ros_node)
    camera = Camera(ros_node, "/strict/image", "strict")  # best effort, as drivers are
    line = process.wait_for("offers best effort, volatile; this node asks for reliable, volatile")
    assert f"topic /strict/image: {ros_node.get_fully_qualified_name()} offers" in line
    wait_until(lambda: diagnostics.level("/strict") == STALE, ANSWER_S, "STALE in the diagnostics")
    assert "offers best effort, volatile" in diagnostics.message("/strict")
    for _ in range(20):
        camera.publish(PICTURE)
        time.sleep(0.02)
    assert sum("offers best effort" in line for line in process.lines) == 1
    assert not [line for line in process.lines if "incompatible QoS" in line]  # ROS's own, which names one side


def test_a_consumer_that_asks_for_more_than_the_node_offers_is_told(quick, ros_node):
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import Image

    process = quick("asked")
    process.wait_for("active: listening to")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros_node.create_subscription(Image, "/asked/labels", print, latched)
    line = process.wait_for("asks for reliable, transient local; this node offers reliable, volatile: nothing arrives")
    assert "topic /asked/labels: " in line


def test_a_topic_of_another_type_or_without_a_publisher_is_told(quick, ros_node):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CompressedImage

    process = quick("mistaken")
    process.wait_for("active: listening to")
    diagnostics = Diagnostics(ros_node)
    wait_until(lambda: "nothing publishes there" in diagnostics.message("/mistaken"), ANSWER_S, "no publisher")
    assert diagnostics.level("/mistaken") == STALE
    ros_node.create_publisher(CompressedImage, "/mistaken/image", qos_profile_sensor_data)
    said = "publishes sensor_msgs/msg/CompressedImage, this node listens for sensor_msgs/msg/Image"
    wait_until(lambda: said in diagnostics.message("/mistaken"), ANSWER_S, said)


def test_a_calibration_that_never_comes_is_a_warning(quick, ros_node):
    process = quick("lost", camera_info="/lost/wrong_name")
    process.wait_for("active: listening to")
    diagnostics = Diagnostics(ros_node)
    camera = Camera(ros_node, "/lost/image", "lost")
    camera.connect()

    def warned() -> bool:
        camera.publish(PICTURE)
        time.sleep(0.1)
        return "no camera info on /lost/wrong_name for" in diagnostics.message("/lost")

    wait_until(warned, ANSWER_S, "the warning")
    assert diagnostics.level("/lost") == WARN
    assert "although images come: nothing publishes there" in diagnostics.message("/lost")


def test_a_covered_lens_is_a_warning_until_it_is_uncovered(quick, ros_node):
    process = quick("covered")
    process.wait_for("active: listening to")
    diagnostics = Diagnostics(ros_node)
    camera = Camera(ros_node, "/covered/image", "covered")
    camera.connect()

    def is_told(rgb: np.ndarray, level: int) -> bool:
        camera.ask(rgb)
        time.sleep(0.05)
        return diagnostics.level("/covered") == level

    wait_until(lambda: is_told(np.zeros_like(PICTURE), WARN), START_S, "the warning")
    assert "the image is nearly of one grey" in diagnostics.message("/covered")
    wait_until(lambda: is_told(PICTURE, 0), START_S, "OK again")
    assert diagnostics.values("/covered")["mean_confidence"]


def test_stamps_that_are_wrong_are_counted_told_and_cost_no_mask(quick, ros_node):
    process = quick("stamped")
    process.wait_for("active: listening to")
    diagnostics = Diagnostics(ros_node)
    camera = Camera(ros_node, "/stamped/image", "stamped")
    camera.connect()

    def values() -> dict[str, str]:
        wait_until(lambda: diagnostics.values("/stamped"), ANSWER_S, "diagnostics")
        return diagnostics.values("/stamped")

    for stamp, key, said in (
        ((0, 0), "stamps_zero", "images with stamp 0"),
        ((2_000_000_000, 0), "stamps_future", "ahead of the node's clock"),
        ((-7, 5), "stamps_backwards", "older than the one before"),
    ):
        before = int(values()[key])
        camera.received["labels"].clear()  # of images with the same stamp
        message = camera.publish(PICTURE, stamp)
        answer = camera.answer(message)
        assert answer.header == message.header
        np.testing.assert_array_equal(pixels(answer), tiny_labels(PICTURE))
        wait_until(lambda key=key, before=before: int(values()[key]) > before, ANSWER_S, key)

        def told(stamp: tuple[int, int] = stamp, said: str = said) -> bool:
            if "older" in said:
                camera.publish(PICTURE, (1, 0))
            camera.publish(PICTURE, stamp)
            time.sleep(0.05)
            return said in diagnostics.message("/stamped")

        wait_until(told, ANSWER_S, said)
        assert diagnostics.level("/stamped") == WARN
    assert values()["failed"] == "0"
    assert not [line for line in process.lines if "left out" in line]


def test_stamps_are_judged_by_the_nodes_own_clock(quick, ros_node):
    from rosgraph_msgs.msg import Clock

    process = quick("simulated", use_sim_time=True)
    process.wait_for("active: listening to")
    diagnostics = Diagnostics(ros_node)
    camera = Camera(ros_node, "/simulated/image", "simulated")
    camera.connect()
    camera.answer(camera.publish(PICTURE, (50, 0)))  # before the first /clock: there is no time to judge by
    clock = ros_node.create_publisher(Clock, "/clock", 10)
    wait_until(lambda: clock.get_subscription_count() > 0, ANSWER_S, "the node's clock")
    message = Clock()
    message.clock.sec = 100
    clock.publish(message)
    time.sleep(QUIET_S)
    for second in (99, 100):  # a tenth of a second is no future
        camera.answer(camera.publish(PICTURE, (second, 90_000_000)))
    wait_until(lambda: diagnostics.values("/simulated").get("stamps_future") == "0", ANSWER_S, "no future")

    def is_future() -> bool:
        clock.publish(message)  # the first one may be lost
        camera.publish(PICTURE, (103, 0))
        time.sleep(0.05)
        return "stamped 3.0 s ahead of the node's clock" in diagnostics.message("/simulated")

    wait_until(is_future, ANSWER_S, "a stamp from the future")


def test_the_period_of_the_diagnostics_changes_while_it_runs(quick, ros_node):
    from diagnostic_msgs.msg import DiagnosticArray

    process = quick("periodic", diagnostics_period_s=60.0)  # longer than anybody waits here
    process.wait_for("active: listening to")
    messages: list[Any] = []
    ros_node.create_subscription(DiagnosticArray, "/diagnostics", messages.append, 10)
    time.sleep(QUIET_S)
    assert messages == []
    assert set_parameter(ros_node, "periodic", "diagnostics_period_s", 0.1).successful
    wait_until(lambda: len(messages) > 5, START_S / 2, "six messages")
