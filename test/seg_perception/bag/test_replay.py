"""Replaying recordings over real DDS: content, timing, clock, loop, QoS, and what cannot be replayed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from seg_perception.bag.reader import BagError, BagMessage, open_bag
from seg_perception.bag.sources import OfferedQos
from test.seg_perception.tiny_bag import TYPESTORE, image_message, write_bag
from test.seg_perception.waiting import wait_until

START_NS = 1_700_000_000 * 10**9
PERIOD_NS = 10**8
FRAMES = 6
UNLIMITED = QosTime(2147483647, 4294967295)


def pixels(number: int) -> np.ndarray:
    return np.full((4, 5, 3), number, np.uint8)


@pytest.fixture
def bag_path(tmp_path: Path) -> Path:
    """Six images, 0.1 s apart."""
    times = [START_NS + number * PERIOD_NS for number in range(FRAMES)]
    return write_bag(
        tmp_path / "bag", [("/image", t, image_message(pixels(n), t, "rgb8")) for n, t in enumerate(times)]
    )


def listen(node: Any, message_type: Any, topic: str, qos: Any = 100) -> list[tuple[float, Any]]:
    arrived: list[tuple[float, Any]] = []
    node.create_subscription(message_type, topic, lambda message: arrived.append((time.monotonic(), message)), qos)
    return arrived


@pytest.mark.parametrize("rate", [1.0, 2.0])
def test_messages_come_whole_in_order_and_at_the_recorded_times(ros_node: Any, bag_path: Path, rate: float) -> None:
    from sensor_msgs.msg import Image

    from seg_perception.bag.replay import Replay

    arrived = listen(ros_node, Image, "/image")
    with open_bag(bag_path) as bag:
        replay = Replay(ros_node, bag, rate=rate)
        assert replay.wait_for_subscribers(1)
        replay.play()
    wait_until(lambda: len(arrived) == FRAMES, 5, "all images")
    assert [bytes(message.data) for _, message in arrived] == [pixels(n).tobytes() for n in range(FRAMES)]
    stamps = [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for _, message in arrived]
    assert stamps == [START_NS + n * PERIOD_NS for n in range(FRAMES)]
    # From first to last 0.5 recorded seconds. A busy machine may hold up any single message, but not hurry it.
    took_s = arrived[-1][0] - arrived[0][0]
    assert 0.5 / rate - 0.1 < took_s < 0.5 / rate + 0.4


def test_the_clock_runs_in_recorded_time_and_never_back(ros_node: Any, bag_path: Path) -> None:
    from rosgraph_msgs.msg import Clock

    from seg_perception.bag.replay import Replay

    clock = listen(ros_node, Clock, "/clock")
    with open_bag(bag_path) as bag:
        replay = Replay(ros_node, bag, clock=True)
        assert replay.wait_for_subscribers(0)
        replay.play()
    last_ns = START_NS + (FRAMES - 1) * PERIOD_NS

    def times_ns() -> list[int]:
        return [message.clock.sec * 10**9 + message.clock.nanosec for _, message in clock]

    wait_until(lambda: last_ns in times_ns(), 5, "the clock to reach the last message")
    times = times_ns()
    assert times == sorted(times)
    assert times[0] >= START_NS
    assert times[-1] == last_ns
    assert len(times) > 2 * FRAMES  # it also runs between the messages


def test_the_start_offset_skips_what_lies_before_it(ros_node: Any, bag_path: Path) -> None:
    from seg_perception.bag.replay import Replay

    published: list[BagMessage] = []
    with open_bag(bag_path) as bag:
        replay = Replay(ros_node, bag, start_offset_s=0.25, on_publish=published.append)
        replay.play()
    assert [message.time_ns for message in published] == [START_NS + n * PERIOD_NS for n in (3, 4, 5)]


def test_stop_ends_it_from_another_thread(ros_node: Any, bag_path: Path) -> None:
    from seg_perception.bag.replay import Replay

    with open_bag(bag_path) as bag:
        replay = Replay(ros_node, bag, rate=0.01, on_publish=lambda message: replay.stop())
        begin_s = time.monotonic()
        replay.play()
    assert replay.published == 1
    assert time.monotonic() - begin_s < 5  # in full it would take 50 s


def test_the_command_loops_until_ctrl_c_and_ends_cleanly(
    ros_node: Any, ros_environment: dict[str, str], bag_path: Path
) -> None:
    from sensor_msgs.msg import Image

    arrived = listen(ros_node, Image, "/image")
    command = [sys.executable, "-m", "seg_perception.cli", "replay", str(bag_path)]
    options = ["--loop", "--rate", "5", "--wait-for-subscribers", "1"]
    with subprocess.Popen(
        [*command, *options], env=ros_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until(lambda: len(arrived) > 2 * FRAMES or process.poll() is not None, 30, "the third round")
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert "messages on 1 topics" in out
    assert "Traceback" not in errors
    numbers = [message.data[0] for _, message in arrived]
    assert numbers[: 2 * FRAMES] == [*range(FRAMES), *range(FRAMES)]


def test_a_type_that_is_not_installed_is_named_and_the_rest_goes_on(ros_node: Any, tmp_path: Path) -> None:
    from seg_perception.bag.replay import Replay

    rest = image_message(pixels(1), START_NS, "rgb8")
    path = tmp_path / "mixed"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        unknown = writer.add_connection("/radar", "radar_msgs/msg/Track", msgdef="float32 range\n", rihs01="RIHS01_0")
        image = writer.add_connection("/image", "sensor_msgs/msg/Image", typestore=TYPESTORE)
        writer.write(unknown, START_NS, bytes(8))
        writer.write(image, START_NS, bytes(TYPESTORE.serialize_cdr(rest, rest.__msgtype__)))
    with open_bag(path) as bag:
        replay = Replay(ros_node, bag)
        replay.play()
        assert replay.left_out == {"/radar": "message type radar_msgs/msg/Track is not installed here"}
        assert replay.published == 1
        with pytest.raises(BagError, match="can be published: /radar: message type radar_msgs/msg/Track is not"):
            Replay(ros_node, bag, ["/radar"])


def test_recorded_qos_is_offered_again_so_that_late_subscribers_get_latched_topics(
    ros_node: Any, tmp_path: Path
) -> None:
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
    from std_msgs.msg import String

    from seg_perception.bag.replay import Replay, publisher_qos

    path = tmp_path / "latched"
    latched = Qos(
        QosHistory.KEEP_LAST,
        1,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL,
        UNLIMITED,
        UNLIMITED,
        QosLiveliness.AUTOMATIC,
        UNLIMITED,
        False,
    )
    lossy = latched._replace(durability=QosDurability.VOLATILE, reliability=QosReliability.BEST_EFFORT, depth=5)
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, qos in (("/map", latched), ("/fast", lossy)):
            connection = writer.add_connection(
                topic, "std_msgs/msg/String", typestore=TYPESTORE, offered_qos_profiles=[qos]
            )
            text = TYPESTORE.types["std_msgs/msg/String"](topic)
            writer.write(connection, START_NS, bytes(TYPESTORE.serialize_cdr(text, text.__msgtype__)))
    with open_bag(path) as bag:
        topics = bag.topics()
        assert topics["/map"].offered_qos == OfferedQos(True, True, 1)
        assert publisher_qos(topics["/fast"]).reliability == ReliabilityPolicy.BEST_EFFORT
        replay = Replay(ros_node, bag, ["/map"])
        replay.play()
        late = listen(ros_node, String, "/map", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        wait_until(lambda: late, 5, "the message published before the subscription")
    assert late[0][1].data == "/map"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "--rate is 0, expected 0.01 to 100"),
        ({"start_offset_s": 9.0}, "--start-offset is 9 s, expected 0 to the bag's 0.500 s"),
        ({"topics": ["/nope"]}, "has no topic '/nope'; it has: /image"),
    ],
)
def test_wrong_options_are_named(ros_node: Any, bag_path: Path, options: dict[str, Any], message: str) -> None:
    from seg_perception.bag.replay import Replay

    with open_bag(bag_path) as bag, pytest.raises(ValueError, match=message):
        Replay(ros_node, bag, **options)


@pytest.mark.parametrize("command", ["replay", "demo"])
def test_without_ros_one_line_says_what_to_do(command: str) -> None:
    code = "import sys; sys.modules['rclpy'] = None; from seg_perception.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, command, "some.mcap"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert f"{command} needs ROS 2" in done.stderr
    assert "source a ROS 2 installation, or pip install 'seg_perception[ros]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
