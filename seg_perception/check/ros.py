"""ROS 2: the client library, the middleware, the messages that the node needs and may use."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from collections.abc import Iterator, Mapping

from seg_perception.check.finding import Finding

INSTALL_ROS = "source /opt/ros/jazzy/setup.bash   (or, without a ROS installation: pip install 'seg_perception[ros]')"
NEEDED = ("sensor_msgs.msg", "std_msgs.msg", "diagnostic_msgs.msg", "lifecycle_msgs.msg")
# What the node does without each of them.
OPTIONAL = {
    "vision_msgs.msg": "label_info is published as JSON in std_msgs/String",
    "cv_bridge": "only the encodings in the README are taken",
    "launch_ros": "`ros2 launch` is not available; run `segmentation_node` itself",
}
HIGHEST_DOMAIN_ID = 232  # above it the ports would pass 65535
HIGHEST_SAFE_DOMAIN_ID = 101  # above it they reach into Linux's own range


def ros_findings(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Whether a node can run here, and in which domain."""
    try:
        importlib.import_module("rclpy")
    except ImportError as error:
        yield Finding(
            "ROS 2", "rclpy", f"not usable: {_line(error)}", "warning", "the node cannot run here", INSTALL_ROS
        )
        return
    yield Finding("ROS 2", "rclpy", f"{_version('rclpy')}, distribution {environment.get('ROS_DISTRO', 'not sourced')}")
    yield from _middleware(environment)
    for name in NEEDED:
        package = name.partition(".")[0]
        try:
            importlib.import_module(name)
        except ImportError as error:
            yield Finding("ROS 2", package, f"not usable: {_line(error)}", "problem", "the node needs it", INSTALL_ROS)
    for name, without in OPTIONAL.items():
        package = name.partition(".")[0]
        try:
            importlib.import_module(name)
        except ImportError:
            yield Finding("ROS 2", package, f"not installed: {without}")
        else:
            yield Finding("ROS 2", package, "installed")
    yield from _domain(environment)


def _middleware(environment: Mapping[str, str]) -> Iterator[Finding]:
    from rclpy.utilities import get_rmw_implementation_identifier

    try:
        name = get_rmw_implementation_identifier()
    except Exception as error:  # rclpy raises its own where the library of RMW_IMPLEMENTATION is missing
        yield Finding(
            "ROS 2", "middleware", f"none: {_line(error)}", "problem", "no node can start", "unset RMW_IMPLEMENTATION"
        )
        return
    if "fastrtps" in name:
        yield Finding("ROS 2", "middleware", name)
    else:
        yield Finding("ROS 2", "middleware", f"{name}; the DDS profiles of this package are for Fast DDS and not read")
    if not environment.get("AMENT_PREFIX_PATH"):
        yield Finding(
            "ROS 2",
            "AMENT_PREFIX_PATH",
            "not set",
            "warning",
            "packages and message types are not found by name",
            'source a setup.bash, or with ROS from wheels: export AMENT_PREFIX_PATH="$VIRTUAL_ENV"',
        )


def _domain(environment: Mapping[str, str]) -> Iterator[Finding]:
    text = environment.get("ROS_DOMAIN_ID", "") or "0"
    value = int(text) if text.isascii() and text.isdigit() else -1
    if 0 <= value <= HIGHEST_SAFE_DOMAIN_ID:
        where = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
        if environment.get("ROS_LOCALHOST_ONLY") == "1":
            where = "LOCALHOST (ROS_LOCALHOST_ONLY)"
        yield Finding("ROS 2", "domain", f"{value}, discovery {where}")
        return
    allowed = 0 <= value <= HIGHEST_DOMAIN_ID
    yield Finding(
        "ROS 2",
        "domain",
        f"ROS_DOMAIN_ID is {text!r}",
        "warning" if allowed else "problem",
        "its ports are also handed out to other programs" if allowed else "no node can start",
        f"export ROS_DOMAIN_ID=42   (0 to {HIGHEST_SAFE_DOMAIN_ID}, the same for all that talk to each other)",
    )


def _version(package: str) -> str:
    for name in (package, f"ros-jazzy-{package}"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
