"""Starts the segmentation node.

    ros2 launch seg_perception segmentation.launch.py image:=/camera/image_raw model:=/path/to/model.onnx

`--show-args` lists everything that can be set. For several cameras there is multi_camera.launch.py, which includes this
file. The node configures and activates itself (parameter `autostart`), so it comes back to work also after a respawn; give
`autostart:=false` where a lifecycle manager does that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, UnsetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import (
    EnvironmentVariable,
    EqualsSubstitution,
    LaunchConfiguration,
    NotEqualsSubstitution,
    PathJoinSubstitution,
)
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from seg_perception.ros.parameter import Parameter
from seg_perception.ros.parameters import PARAMETERS

PROFILES_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"


def generate_launch_description() -> LaunchDescription:
    """Arguments, the DDS profile, the node."""
    shipped_profile = PathJoinSubstitution([FindPackageShare("seg_perception"), "config/dds/fastdds_large_images.xml"])
    return LaunchDescription(
        [
            *(_argument(parameter) for parameter in PARAMETERS),
            DeclareLaunchArgument(
                "params_file",
                default_value="",
                description="YAML file with the node's parameters, over which arguments win; empty: none.",
            ),
            DeclareLaunchArgument("name", default_value="segmentation", description="Name of the node."),
            DeclareLaunchArgument(
                "namespace", default_value="", description="Namespace of the node, such as /robot1; empty: none."
            ),
            DeclareLaunchArgument(
                "remappings",
                default_value="",
                description="Other names of topics and services, FROM:=TO, comma-separated, such as "
                "~/labels:=/semantic/labels; empty: none.",
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="false",
                description="Take the time from /clock: simulators, replayed bags.",
                choices=["true", "false"],
            ),
            DeclareLaunchArgument(
                "log_level",
                default_value="info",
                description="What the node logs.",
                choices=["debug", "info", "warn", "error", "fatal"],
            ),
            DeclareLaunchArgument(
                "respawn",
                default_value="true",
                description="Start the node again, after two seconds, when it ends by itself.",
                choices=["true", "false"],
            ),
            DeclareLaunchArgument(
                "dds_profile",
                default_value=EnvironmentVariable(PROFILES_VARIABLE, default_value=shipped_profile),
                description="Fast DDS profile for this and the nodes after it, so that no large image is lost; the "
                f"camera driver needs it too. By default that of {PROFILES_VARIABLE} where it is set; none: DDS as it is.",
            ),
            SetEnvironmentVariable(
                PROFILES_VARIABLE,
                LaunchConfiguration("dds_profile"),
                condition=IfCondition(NotEqualsSubstitution(LaunchConfiguration("dds_profile"), "none")),
            ),
            UnsetEnvironmentVariable(
                PROFILES_VARIABLE,
                condition=IfCondition(EqualsSubstitution(LaunchConfiguration("dds_profile"), "none")),
            ),
            OpaqueFunction(function=_node),
        ]
    )


def _argument(parameter: Parameter) -> DeclareLaunchArgument:
    choices = ["true", "false"] if isinstance(parameter.default, bool) else list(parameter.choices)
    expected = "" if choices else f"{parameter.expectation}; "
    default = "none" if parameter.default in ("", []) else parameter.default
    return DeclareLaunchArgument(
        parameter.name,
        default_value="",
        description=f"{parameter.description} [{expected}not given: params_file, else {default}]",
        choices=["", *choices] if choices else None,
    )


def _node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = {name: LaunchConfiguration(name).perform(context) for name in ("params_file", "use_sim_time", "respawn")}
    parameters: list[str | dict[str, object]] = []
    if given["params_file"]:
        if not Path(given["params_file"]).is_file():
            raise RuntimeError(f"params_file {given['params_file']} is no file, expected a YAML file with parameters")
        parameters.append(given["params_file"])
    values: dict[str, object] = {}
    for parameter in PARAMETERS:
        text = LaunchConfiguration(parameter.name).perform(context)
        if text:
            values[parameter.name] = _value(parameter, text)
    values |= _of_cameras(context.launch_configurations)
    values["use_sim_time"] = given["use_sim_time"] == "true"
    return [
        LifecycleNode(
            package="seg_perception",
            executable="segmentation_node",
            name=LaunchConfiguration("name"),
            namespace=LaunchConfiguration("namespace"),
            parameters=[*parameters, values],
            remappings=_remappings(LaunchConfiguration("remappings").perform(context)),
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            output="screen",
            respawn=given["respawn"] == "true",
            respawn_delay=2.0,
        )
    ]


def _value(parameter: Parameter, text: str) -> object:
    """As its parameter's type has it. A text is never taken for a number; what does not fit, the node itself refuses by name."""
    if isinstance(parameter.default, str):
        return ParameterValue(text, value_type=str)
    if isinstance(parameter.default, list):
        return ParameterValue(_names(text), value_type=list[str])
    value = yaml.safe_load(text)
    # 5 for 5.0: a parameter has one type only.
    is_whole_number = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_whole_number and isinstance(parameter.default, float) else value


def _names(text: str) -> list[str]:
    """Of "front, rear" and of "[front, rear]"."""
    return [name.strip(" '\"") for name in text.strip("[] ").split(",") if name.strip()]


def _of_cameras(configurations: dict[str, Any]) -> dict[str, object]:
    """Parameters of one among several cameras, which no argument can be declared for: `front.image:=...`.

    Raises:
        RuntimeError: a camera of the argument `cameras` has no such parameter.
    """
    cameras = _names(configurations["cameras"])
    per_camera = {parameter.name: parameter for parameter in PARAMETERS if parameter.per_camera}
    values: dict[str, object] = {}
    for name, text in configurations.items():
        camera, dot, plain = name.partition(".")
        if dot and plain in per_camera:
            values[name] = _value(per_camera[plain], text)
        elif dot and camera in cameras:
            raise RuntimeError(f"argument {name}: a camera has no parameter {plain}, only {', '.join(per_camera)}")
    return values


def _remappings(text: str) -> list[tuple[str, str]]:
    """FROM:=TO pairs; raises RuntimeError where one is none."""
    pairs = [pair.strip().partition(":=") for pair in text.split(",") if pair.strip()]
    for source, sign, target in pairs:
        if not (source and sign and target):
            raise RuntimeError(f"remappings are {text!r}, expected FROM:=TO, comma-separated")
    return [(source, target) for source, _, target in pairs]
