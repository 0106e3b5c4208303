"""Topics whose two sides do not match, over DDS: one warning that names both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs rclpy: source a ROS 2 installation, or pip install 'seg_perception[ros]'")

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from seg_perception.ros.topic_match import TopicMatch
from test.seg_perception.waiting import wait_until

SOON_S = 30.0
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Log:
    """Takes what a logger is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def log(ros_node: Any, monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(ros_node, "get_logger", lambda: log)
    return log


@pytest.fixture
def other(ros_context: Any) -> Iterator[Any]:
    """A node of another DDS participant: one alone would refuse two types of a topic."""
    import rclpy
    from rclpy.context import Context
    from rclpy.node import Node

    context = Context()
    rclpy.init(context=context)
    node = Node("driver", namespace="/front", context=context)
    yield node
    node.destroy_node()
    context.shutdown()


def warned(match: TopicMatch, log: Log) -> str:
    def look() -> list[str]:
        match.look()
        return log.lines

    wait_until(look, SOON_S, "a warning")
    for _ in range(20):
        match.look()
    assert len(log.lines) == 1
    return log.lines[0]


def test_a_camera_that_offers_less_than_is_asked_for(ros_node: Any, other: Any, log: Log) -> None:
    match = TopicMatch(ros_node)
    topic = "/mismatched/image"
    ros_node.create_subscription(Image, topic, print, RELIABLE, event_callbacks=match.input_events(topic))
    other.create_publisher(Image, topic, BEST_EFFORT)
    line = warned(match, log)
    assert line == (
        "topic /mismatched/image: /front/driver offers best effort, volatile; this node asks for reliable, volatile: nothing "
        "arrives (best effort publisher and reliable subscription); change one of them, this node's with "
        "qos_overrides./mismatched/image.subscription"
    )
    assert match.why_silent(topic) == line


def test_a_consumer_that_asks_for_more_than_is_offered(ros_node: Any, other: Any, log: Log) -> None:
    match = TopicMatch(ros_node)
    topic = "/mismatched/labels"
    ros_node.create_publisher(Image, topic, RELIABLE, event_callbacks=match.output_events(topic))
    other.create_subscription(Image, topic, print, LATCHED)
    line = warned(match, log)
    assert (
        "/front/driver asks for reliable, transient local; this node offers reliable, volatile: nothing arrives" in line
    )
    assert line.endswith("qos_overrides./mismatched/labels.publisher")


def test_a_camera_of_another_type(ros_node: Any, other: Any, log: Log) -> None:
    match = TopicMatch(ros_node)
    topic = "/mistyped/image"
    ros_node.create_subscription(Image, topic, print, BEST_EFFORT, event_callbacks=match.input_events(topic))
    wait_until(lambda: match.why_silent(topic) == "nothing publishes there", SOON_S, "nothing there")
    other.create_publisher(CompressedImage, topic, BEST_EFFORT)
    expected = (
        "topic /mistyped/image: /front/driver publishes sensor_msgs/msg/CompressedImage, this node listens for "
        "sensor_msgs/msg/Image: nothing arrives; set image_type"
    )
    wait_until(lambda: match.why_silent(topic) == expected, SOON_S, expected)


def test_sides_that_match_are_no_matter(ros_node: Any, other: Any, log: Log) -> None:
    match = TopicMatch(ros_node)
    ros_node.create_subscription(Image, "/matched", print, BEST_EFFORT, event_callbacks=match.input_events("/matched"))
    publisher = other.create_publisher(Image, "/matched", RELIABLE)
    wait_until(lambda: publisher.get_subscription_count() > 0, SOON_S, "the subscription")
    wait_until(lambda: match.why_silent("/matched") == "", SOON_S, "the publisher")
    match.look()
    assert log.lines == []
