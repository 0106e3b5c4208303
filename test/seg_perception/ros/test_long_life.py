"""What adds up over months: transitions, subscribers that come and go, parameters set, clocks that jump.

LIFECYCLE_CYCLES=200 and SUBSCRIBERS=1000 in the environment make it long; the suite's own numbers take seconds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test.seg_perception.node_diagnostics import Diagnostics, figures
from test.seg_perception.node_process import ANSWER_S, START_S, Camera, NodeProcess, pixels
from test.seg_perception.node_services import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels, write_tiny_model
from test.seg_perception.waiting import wait_until

PICTURE = np.random.default_rng(0).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)
CYCLES = int(os.environ.get("LIFECYCLE_CYCLES", "12"))
SUBSCRIBERS = int(os.environ.get("SUBSCRIBERS", "60"))
WARM_CYCLES = 4  # libraries keep what they may need again
# glibc's arenas come and go by some megabytes; an engine that stayed would be 1 MB a cycle at least, rclpy itself keeps 3 kB.
MEMORY_MB = 10.0 + 0.02 * CYCLES


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose answers can be worked out by hand."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "m.onnx")


@pytest.fixture(scope="module")
def process(ros_environment: dict[str, str], model: Path) -> Iterator[NodeProcess]:
    """One node for the whole file."""
    process = NodeProcess(
        ros_environment,
        "lasting",
        model=model,
        image="/lasting/image",
        engine="onnxruntime",
        diagnostics_period_s=0.2,
        use_sim_time=True,
    )
    process.wait_for("active: listening to")
    yield process
    assert process.alive, process.lines[-20:]
    assert process.stop() == 0, process.lines[-20:]
    assert not [line for line in process.lines if "Traceback" in line or "unexpected" in line]


@pytest.fixture
def camera(process: NodeProcess, ros_node: Any) -> Camera:
    """A camera whose images the node answers."""
    camera = Camera(ros_node, "/lasting/image", "lasting")
    camera.connect()
    return camera


def assert_serves(camera: Camera) -> None:
    np.testing.assert_array_equal(pixels(camera.ask(PICTURE)), tiny_labels(PICTURE))


def test_a_clock_that_jumps_both_ways_costs_nothing(process, ros_node, camera):
    """A played recording that starts again: /clock and stamps go back; the node runs by /clock."""
    from rosgraph_msgs.msg import Clock

    diagnostics = Diagnostics(ros_node)
    clock = ros_node.create_publisher(Clock, "/clock", 10)
    wait_until(lambda: clock.get_subscription_count() > 0, ANSWER_S, "the node's clock")
    for now_s in (1000, 1001, 5, 6, 2_000_000_000, 0, 7):
        message = Clock()
        message.clock.sec = now_s
        clock.publish(message)
        for nanosecond in range(3):
            image = camera.publish(PICTURE, (now_s, 100 + nanosecond))
            assert camera.answer(image).header == image.header
    wait_until(lambda: diagnostics.values("/lasting").get("lifecycle") == "active", ANSWER_S, "diagnostics")
    assert diagnostics.values("/lasting")["failed"] == "0"


def test_subscribers_that_come_and_go_leave_nothing_behind(process, ros_context, camera):
    from rclpy.node import Node
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    names = ("labels", "confidence", "superpixels", "overlay")
    crowd = Node("crowd", context=ros_context)  # which nobody spins: this process has the camera's answers to look at

    def come_and_go(count: int) -> None:
        for number in range(count):
            qos = QoSProfile(depth=1 + number % 5, reliability=list(ReliabilityPolicy)[1 + number % 2])
            topic = f"/lasting/{names[number % len(names)]}"
            subscription = crowd.create_subscription(Image, topic, lambda _: None, qos)
            if number % 5 == 0:
                assert_serves(camera)
            crowd.destroy_subscription(subscription)

    come_and_go(20)
    before = figures(process.process.pid)
    come_and_go(SUBSCRIBERS)
    for _ in range(SUBSCRIBERS):
        crowd.create_subscription(Image, "/lasting/labels", lambda _: None, 1)
    assert_serves(camera)
    crowd.destroy_node()
    assert_serves(camera)
    after = figures(process.process.pid)
    assert after.threads == before.threads
    assert after.files <= before.files + 2  # ROS's log may take another
    assert after.memory_mb < before.memory_mb + 20 + 0.02 * SUBSCRIBERS


def test_a_storm_of_parameters_is_answered_one_by_one_while_masks_go_on(process, ros_node, camera):
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    client = ros_node.create_client(SetParameters, "/lasting/set_parameters")
    assert client.wait_for_service(timeout_sec=START_S)
    wanted = [
        ("overlay_alpha", 0.25, True),
        ("overlay_alpha", 7.0, False),
        ("overlay_alpha", "much", False),
        ("image", "/elsewhere", False),
        ("no_such_parameter", 1, False),
        ("late_after_ms", 500.0, True),
    ]
    for burst in range(40):
        futures = []
        for name, value, is_allowed in wanted:  # at once; ROS itself keeps no more than ten requests
            request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
            futures.append((client.call_async(request), name, is_allowed))
        if burst % 8 == 0:
            assert_serves(camera)
        wait_until(lambda futures=futures: all(future.done() for future, _, _ in futures), ANSWER_S, "every answer")
        for future, name, is_allowed in futures:
            (result,) = future.result().results
            assert result.successful == is_allowed, (name, result.reason)
            assert is_allowed or result.reason
    assert_serves(camera)


def test_round_after_round_of_the_lifecycle_leaves_nothing_behind(process, ros_node, camera):
    """Images come all the while, so that every deactivation has one in hand or waiting."""
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    stop = threading.Event()

    def publish() -> None:
        while not stop.wait(0.01):
            camera.publish(PICTURE)

    # One client for all: the node keeps something of each one that lives.
    client = ros_node.create_client(ChangeState, "/lasting/change_state")
    assert client.wait_for_service(timeout_sec=START_S)

    def round_trip() -> None:
        for transition in (DEACTIVATE, CLEANUP, CONFIGURE, ACTIVATE):
            future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
            wait_until(future.done, START_S, f"the answer to transition {transition}")
            assert future.result().success

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        for _ in range(WARM_CYCLES):
            round_trip()
        before = figures(process.process.pid)
        for _ in range(CYCLES):
            round_trip()
        time.sleep(0.3)  # a thread that has ended is still there for a moment
        after = figures(process.process.pid)
    finally:
        stop.set()
        publisher.join()
    assert after.threads <= before.threads
    assert after.files <= before.files + 2  # ROS's log may take another
    assert after.memory_mb < before.memory_mb + MEMORY_MB
    camera.connect()
    assert_serves(camera)
    print(f"{CYCLES} cycles: {before} -> {after}")
