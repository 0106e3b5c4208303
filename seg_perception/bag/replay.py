"""Publishes a recording's topics with their timing: `seg_perception replay`, and the demo's camera.

Messages go out as the bytes that were recorded; nothing is decoded on the way.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock

from seg_perception.bag.frames import prefetch
from seg_perception.bag.reader import BagError, BagMessage, BagReader, Topic, open_bag
from seg_perception.progress import Progress

logger = logging.getLogger(__name__)

CLOCK_TOPIC = "/clock"
CLOCK_PERIOD_S = 0.01  # wall time between two messages on /clock
DISCOVERY_S = 0.5  # nodes on a network need so long to find each other
_MATCHING_S = 0.25  # the other side of a match may know of it so much later
_SAY_WAITING_EVERY_S = 5.0
_DEPTH = 10
_LATCHED_DEPTH = 1000  # at most so many messages are kept for late subscribers
_AHEAD = 32  # messages read from the disk before they are due


class Replay:
    """Publishes one recording through one node.

    Args:
        node: its publishers are made on it.
        bag: the open recording.
        topics: those to publish; empty for all.
        rate: recorded seconds a wall second.
        clock: also publish /clock, in recorded time. A recorded /clock is then left out.
        start_offset_s: recorded seconds to skip at the start.
        duration_s: recorded seconds to publish; None for all that follow.
        on_publish: called with every message just before it is published.

    Attributes:
        topics: those that are published.
        left_out: why others are not, by name.
        total: messages to publish, once through.
        published: messages published so far.
        latest_ms: by how much the latest message missed its time.

    Raises:
        BagError: a topic is not in the recording, or nothing of it can be published.
        ValueError: rate or start offset are out of range.
    """

    def __init__(
        self,
        node: Node,
        bag: BagReader,
        topics: Sequence[str] = (),
        rate: float = 1.0,
        clock: bool = False,
        start_offset_s: float = 0.0,
        duration_s: float | None = None,
        on_publish: Callable[[BagMessage], None] | None = None,
    ) -> None:
        if not 0.01 <= rate <= 100.0:
            raise ValueError(f"--rate is {rate:g}, expected 0.01 to 100")
        length_s = 1e-9 * (bag.end_ns - bag.start_ns)
        if not 0.0 <= start_offset_s <= length_s:
            raise ValueError(f"--start-offset is {start_offset_s:g} s, expected 0 to the bag's {length_s:.3f} s")
        self._bag = bag
        self._rate = rate
        self._begin_ns = bag.start_ns + round(1e9 * start_offset_s)
        self._end_ns = bag.end_ns if duration_s is None else self._begin_ns + round(1e9 * duration_s)
        self._on_publish = on_publish
        self._stop = threading.Event()
        self.topics: dict[str, Topic] = {}
        self.left_out: dict[str, str] = {}
        self.published = 0
        self.latest_ms = 0.0
        self._clock = node.create_publisher(Clock, CLOCK_TOPIC, 10) if clock else None
        self._publishers: dict[str, Any] = {}
        for topic in [bag.topic(name) for name in topics] or bag.topics().values():
            reason = self._advertise(node, topic) if not (clock and topic.name == CLOCK_TOPIC) else "made by --clock"
            if reason:
                self.left_out[topic.name] = reason
        if not self.topics:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items()) or "it has no topic"
            raise BagError(f"nothing of bag {bag.path} can be published: {reasons}")
        self.total = sum(topic.count for topic in self.topics.values())

    def _advertise(self, node: Node, topic: Topic) -> str:
        """Make the topic's publisher; returns why there is none."""
        package, _, name = topic.type.partition("/msg/")
        try:
            message_type = getattr(importlib.import_module(f"{package}.msg"), name)
        except (ImportError, AttributeError, ValueError):
            return f"message type {topic.type} is not installed here"
        self._publishers[topic.name] = node.create_publisher(message_type, topic.name, publisher_qos(topic))
        self.topics[topic.name] = topic
        return ""

    def subscriptions(self) -> int:
        """Subscriptions that are matched with the published topics, /clock not counted."""
        return sum(publisher.get_subscription_count() for publisher in self._publishers.values())

    def wait_for_subscribers(self, count: int) -> bool:
        """Wait until `count` subscriptions are there, however long that takes; with 0, the time of discovery only.

        Returns whether it may begin: False once `stop` was called.
        """
        if count == 0:
            return not self._stop.wait(DISCOVERY_S)
        said = -_SAY_WAITING_EVERY_S
        while self.subscriptions() < count:
            if monotonic() - said >= _SAY_WAITING_EVERY_S:
                said = monotonic()
                logger.info("waiting for %d subscriptions to %s", count, ", ".join(self.topics))
            if self._stop.wait(0.02):
                return False
        return not self._stop.wait(_MATCHING_S)

    def play(self, progress: Callable[[], object] | None = None) -> None:
        """Publish once through; ends early when `stop` is called. `progress` is called after every message."""
        begin_s = monotonic()
        messages = prefetch(self._bag.messages(list(self.topics)), _AHEAD)
        try:
            for message in messages:
                if message.time_ns > self._end_ns:
                    return
                offset_ns = message.time_ns - self._begin_ns
                if offset_ns >= 0:
                    due_s = begin_s + 1e-9 * offset_ns / self._rate
                    if not self._wait_until(due_s, begin_s):
                        return
                    self.latest_ms = max(self.latest_ms, 1e3 * (monotonic() - due_s))
                    self._publish_clock(message.time_ns)
                    if self._on_publish is not None:
                        self._on_publish(message)
                    self._publishers[message.topic].publish(message.data)
                    self.published += 1
                if progress is not None:
                    progress()
        finally:
            messages.close()  # type: ignore[attr-defined]  # it is a generator; this ends its thread

    def stop(self) -> None:
        """End `play` and waiting, from any thread."""
        self._stop.set()

    def _wait_until(self, due_s: float, begin_s: float) -> bool:
        """Wait for the time of a message, with /clock going on; False once stopped."""
        while True:
            now_s = monotonic()
            remaining_s = due_s - now_s
            if remaining_s <= 0:
                return not self._stop.is_set()
            if self._clock is not None:
                self._publish_clock(self._begin_ns + round(1e9 * (now_s - begin_s) * self._rate))
                remaining_s = min(remaining_s, CLOCK_PERIOD_S)
            if self._stop.wait(remaining_s):
                return False

    def _publish_clock(self, time_ns: int) -> None:
        if self._clock is not None:
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(time_ns, 10**9)
            self._clock.publish(message)


def publisher_qos(topic: Topic) -> QoSProfile:
    """What a replayed topic offers: as recorded; reliable, volatile and keep-last where nothing was recorded."""
    offered = topic.offered_qos
    if offered is None:
        return QoSProfile(depth=_DEPTH)
    depth = max(offered.depth, _DEPTH)
    if offered.transient_local:
        # Several publishers (as of /tf_static) become one here, which has to keep what all of them kept.
        depth = max(depth, min(topic.count, _LATCHED_DEPTH))
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if offered.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if offered.transient_local else DurabilityPolicy.VOLATILE,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `seg_perception replay`."""
    parser.add_argument("bag", type=Path, help="a rosbag2 folder, or a lone .mcap or .db3 file")
    parser.add_argument("--rate", type=float, default=1.0, help="recorded seconds a second (default: %(default)s)")
    parser.add_argument("--loop", action="store_true", help="begin again at the end, until Ctrl-C")
    parser.add_argument("--clock", action="store_true", help="also publish /clock, for nodes with use_sim_time")
    parser.add_argument("--topics", nargs="+", default=[], metavar="TOPIC", help="only these (default: all)")
    parser.add_argument("--start-offset", type=float, default=0.0, metavar="S", help="skip so many recorded seconds")
    parser.add_argument(
        "--wait-for-subscribers",
        type=int,
        default=0,
        metavar="N",
        help=f"begin when N subscriptions are there (default: after {DISCOVERY_S} s)",
    )
    parser.add_argument(
        "--ros-args", nargs=argparse.REMAINDER, default=[], help="what follows goes to ROS, such as -r /camera:=/front"
    )


def run(options: argparse.Namespace) -> int:
    """Run `seg_perception replay`; Ctrl-C is its ordinary end."""
    if options.wait_for_subscribers < 0:
        raise ValueError(f"--wait-for-subscribers is {options.wait_for_subscribers}, expected 0 or more")
    with open_bag(options.bag) as bag:
        # Without handlers of ROS's own, Ctrl-C arrives here as KeyboardInterrupt, between two messages.
        rclpy.init(args=["--ros-args", *options.ros_args], signal_handler_options=SignalHandlerOptions.NO)
        try:
            node = Node("replay")
            replay = Replay(node, bag, options.topics, options.rate, options.clock, options.start_offset)
            for name, reason in replay.left_out.items():
                logger.warning("topic %s is left out: %s", name, reason)
            with spinning(node):
                _play(replay, options)
        finally:
            rclpy.try_shutdown()
    return 0


def _play(replay: Replay, options: argparse.Namespace) -> None:
    rounds = 0
    try:
        if not replay.wait_for_subscribers(options.wait_for_subscribers):
            return
        while rounds == 0 or options.loop:
            with Progress("replay", replay.total, "message", not options.loop or sys.stderr.isatty()) as job:
                replay.play(job.step)
            rounds += 1
    except KeyboardInterrupt:
        print("", file=sys.stderr)
    print(
        f"replay      {replay.published} messages on {len(replay.topics)} topics, at most {replay.latest_ms:.1f} ms late"
    )


@contextmanager
def spinning(node: Node) -> Iterator[None]:
    """Runs a node's callbacks - its QoS warnings, its services - in a thread; destroys the node at the end."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)

    def spin() -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, name="spin", daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join()
        node.destroy_node()
