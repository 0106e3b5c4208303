"""The services of the node, called over DDS."""

from __future__ import annotations

from typing import Any

from test.seg_perception.node_process import START_S
from test.seg_perception.waiting import wait_until

CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE = 1, 2, 3, 4  # lifecycle_msgs/Transition


def change_state(ros_node: Any, name: str, transition: int, label: str = "") -> bool:
    """Ask the lifecycle service of a node for a transition (lifecycle_msgs/Transition)."""
    from lifecycle_msgs.srv import ChangeState

    client = ros_node.create_client(ChangeState, f"/{name}/change_state")
    assert client.wait_for_service(timeout_sec=START_S)
    request = ChangeState.Request()
    request.transition.id, request.transition.label = transition, label
    future = client.call_async(request)
    wait_until(future.done, START_S, f"the answer to transition {transition}")
    return future.result().success


def set_parameter(ros_node: Any, name: str, parameter: str, value: Any) -> Any:
    """The answer to `ros2 param set`."""
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    client = ros_node.create_client(SetParameters, f"/{name}/set_parameters")
    assert client.wait_for_service(timeout_sec=START_S)
    future = client.call_async(SetParameters.Request(parameters=[Parameter(parameter, value=value).to_parameter_msg()]))
    wait_until(future.done, START_S, f"the answer to setting {parameter}")
    return future.result().results[0]


def call_trigger(ros_node: Any, name: str, service: str) -> Any:
    """The answer of a std_srvs/Trigger service of a node."""
    from std_srvs.srv import Trigger

    client = ros_node.create_client(Trigger, f"/{name}/{service}")
    assert client.wait_for_service(timeout_sec=START_S)
    future = client.call_async(Trigger.Request())
    wait_until(future.done, START_S, f"the answer of {service}")
    return future.result()


def enable_camera(ros_node: Any, camera: str, enabled: bool) -> Any:
    """The answer of a camera's service `enable`; `camera` is the node's name and, of several, the camera's behind it."""
    from std_srvs.srv import SetBool

    client = ros_node.create_client(SetBool, f"/{camera}/enable")
    assert client.wait_for_service(timeout_sec=START_S)
    future = client.call_async(SetBool.Request(data=enabled))
    wait_until(future.done, START_S, f"the answer of {camera}/enable")
    return future.result()
