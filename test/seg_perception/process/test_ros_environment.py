"""The environment of ROS processes, and that camera images arrive with it."""

from __future__ import annotations

import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from seg_perception.process.ros_environment import (
    LARGE_IMAGES_PROFILE,
    ONE_HOST_PROFILE,
    PROFILES_VARIABLE,
    free_domain_id,
    ros_process_environment,
)
from seg_perception.share import share_path
from test.seg_perception.waiting import wait_until

IMAGES = 120
PUBLISHER = f"""
import time, rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, "/image", qos_profile_sensor_data)
deadline = time.monotonic() + 20
while publisher.get_subscription_count() == 0 and time.monotonic() < deadline:
    time.sleep(0.01)
time.sleep(0.25)  # the other side matches a little later
image = Image(height=480, width=640, encoding="rgb8", step=1920)
image.data.frombytes(bytes(640 * 480 * 3))
for number in range({IMAGES}):
    image.header.stamp.sec = number
    publisher.publish(image)
    time.sleep(1 / 30)
"""


def test_every_large_best_effort_image_reaches_another_process(ros_node: Any, ros_environment: dict[str, str]) -> None:
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    arrived: list[int] = []
    # Deep enough for a busy machine: what counts here is what the transport loses.
    qos = QoSProfile(depth=30, reliability=ReliabilityPolicy.BEST_EFFORT)
    ros_node.create_subscription(Image, "/image", lambda image: arrived.append(image.header.stamp.sec), qos)
    done = subprocess.run([sys.executable, "-c", PUBLISHER], env=ros_environment, timeout=60, check=False)
    assert done.returncode == 0
    wait_until(lambda: len(arrived) >= IMAGES, 5, f"{IMAGES} images, {len(arrived)} came")
    assert arrived == list(range(IMAGES))


def test_the_environment_keeps_processes_on_their_host_and_in_their_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "0")
    environment = ros_process_environment(42)
    assert environment["ROS_DOMAIN_ID"] == "42"
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert environment["AMENT_PREFIX_PATH"] == sys.prefix
    assert Path(environment[PROFILES_VARIABLE]) == share_path(ONE_HOST_PROFILE)
    assert "ROS_LOCALHOST_ONLY" not in environment


def test_a_sourced_ros_and_a_given_profile_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/jazzy")
    profile = tmp_path / "own.xml"
    profile.write_text("<profiles/>", encoding="utf-8")
    environment = ros_process_environment(0, profile)
    assert environment["AMENT_PREFIX_PATH"] == "/opt/ros/jazzy"
    assert environment[PROFILES_VARIABLE] == str(profile)


def test_a_wrong_domain_or_profile_is_named() -> None:
    with pytest.raises(ValueError, match=r"ROS_DOMAIN_ID is 102, expected 0\.\.101"):
        ros_process_environment(102)
    with pytest.raises(FileNotFoundError, match=r"DDS profile /nowhere/profile\.xml does not exist"):
        ros_process_environment(1, Path("/nowhere/profile.xml"))


def test_a_domain_whose_port_is_taken_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = free_domain_id()
    monkeypatch.setattr("seg_perception.process.ros_environment._DOMAIN_IDS", range(taken, taken + 1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("", 7400 + 250 * taken + 10))
        with pytest.raises(RuntimeError, match="in use on this host"):
            free_domain_id()


def test_only_the_profile_for_one_host_is_held_to_loopback() -> None:
    for relative, expected in ((ONE_HOST_PROFILE, ["127.0.0.1"]), (LARGE_IMAGES_PROFILE, [])):
        addresses = [
            element.text for element in ET.parse(share_path(relative)).iter() if element.tag.endswith("}address")
        ]
        assert addresses == expected
