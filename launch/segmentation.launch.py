"""Starts the segmentation node for one camera.

    ros2 launch seg_perception segmentation.launch.py image:=/camera/image_raw model:=/path/to/model.onnx

`--show-args` lists everything that can be set. For several cameras include this file once each, with `name` or
`namespace` set. The node configures and activates itself (parameter `autostart`), so it comes back to work also after
a respawn; give `autostart:=false` where a lifecycle manager does that.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, NotEqualsSubstitution, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from seg_perception.ros.parameters import PARAMETERS

PROFILES_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"


def generate_launch_description() -> LaunchDescription:
    """Arguments, the DDS profile, the node."""
    parameters = [
        DeclareLaunchArgument(
            parameter.name,
            default_value="",
            description=f"{parameter.description} [{parameter.expectation}; not given: params_file, else "
            f"{parameter.default!r}]",
        )
        for parameter in PARAMETERS
    ]
    shipped_profile = PathJoinSubstitution([FindPackageShare("seg_perception"), "config/dds/fastdds_large_images.xml"])
    return LaunchDescription(
        [
            *parameters,
            DeclareLaunchArgument(
                "params_file", default_value="", description="YAML file with the node's parameters; empty: none."
            ),
            DeclareLaunchArgument("name", default_value="segmentation", description="Name of the node."),
            DeclareLaunchArgument(
                "namespace", default_value="", description="Namespace of the node, such as /front; empty: none."
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
                description="Start the node again when it ends by itself.",
                choices=["true", "false"],
            ),
            DeclareLaunchArgument(
                "dds_profile",
                default_value=EnvironmentVariable(PROFILES_VARIABLE, default_value=shipped_profile),
                description="Fast DDS profile for this and the nodes after it, so that no large image is lost; the "
                f"camera driver needs it too. By default that of {PROFILES_VARIABLE} where it is set; empty: none.",
            ),
            SetEnvironmentVariable(
                PROFILES_VARIABLE,
                LaunchConfiguration("dds_profile"),
                condition=IfCondition(NotEqualsSubstitution(LaunchConfiguration("dds_profile"), "")),
            ),
            OpaqueFunction(function=_node),
        ]
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
            # A text is never taken for a number. What does not fit its parameter, the node itself refuses by name.
            is_text = isinstance(parameter.default, str)
            values[parameter.name] = ParameterValue(text, value_type=str) if is_text else yaml.safe_load(text)
    values["use_sim_time"] = given["use_sim_time"] == "true"
    return [
        LifecycleNode(
            package="seg_perception",
            executable="segmentation_node",
            name=LaunchConfiguration("name"),
            namespace=LaunchConfiguration("namespace"),
            parameters=[*parameters, values],
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            output="screen",
            respawn=given["respawn"] == "true",
            respawn_delay=2.0,
        )
    ]
