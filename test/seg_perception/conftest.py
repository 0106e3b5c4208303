"""What tests over real DDS share: a domain of their own for each test process, one ROS context, a spinning node."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

from seg_perception.process.ros_environment import free_domain_id, ros_process_environment


@pytest.fixture(scope="session")
def ros_environment() -> dict[str, str]:
    """The environment for this test process and for those that it starts; it is set here already."""
    if find_spec("rclpy") is None:
        pytest.skip("needs rclpy: source a ROS 2 installation, or pip install 'seg_perception[ros]'")
    environment = ros_process_environment(free_domain_id())
    os.environ.update(environment)
    return environment


@pytest.fixture(scope="session")
def ros_context(ros_environment: dict[str, str]) -> Iterator[Any]:
    """rclpy's default context, initialised once: a domain takes a while to be set up and torn down."""
    import rclpy

    rclpy.init()
    yield rclpy.get_default_context()
    rclpy.try_shutdown()


@contextmanager
def spinning(name: str, context: Any) -> Iterator[Any]:
    """A plain rclpy node, spun by a thread in the background."""
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    node = Node(f"tester_{name}"[:200].rstrip("_"), context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, name="spin", daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join(timeout=10)
    assert not thread.is_alive(), "the spinning thread does not end: a callback of this test hangs"
    node.destroy_node()


@pytest.fixture
def ros_node(ros_context: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A node of this test's own."""
    with spinning(request.node.name, ros_context) as node:
        yield node


@pytest.fixture(scope="module")
def module_ros_node(ros_context: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A node for all tests of a module: cameras on it are connected once, which takes seconds."""
    with spinning(request.node.name, ros_context) as node:
        yield node
