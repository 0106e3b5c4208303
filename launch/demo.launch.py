"""Plays the shipped recording through the segmentation node, for looking at it in RViz, Foxglove or rqt.

    ros2 launch seg_perception demo.launch.py

The masks are on /segmentation/labels, /segmentation/superpixels, /segmentation/confidence and /segmentation/overlay.
With use_sim_time:=true the recording's time is on /clock. For scores and a report launch evaluate.launch.py instead.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from seg_perception.engines.select import ENGINE_KINDS


def generate_launch_description() -> LaunchDescription:
    """Arguments, the node, and the recording once the node listens."""
    share = FindPackageShare("seg_perception")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "bag",
                default_value=PathJoinSubstitution([share, "bags/rooms_demo.mcap"]),
                description="Recording to play: a rosbag2 folder, .mcap or .db3.",
            ),
            DeclareLaunchArgument(
                "image",
                default_value="/camera/image_raw/compressed",
                description="Topic of the recording's camera images.",
            ),
            DeclareLaunchArgument(
                "image_type",
                default_value="auto",
                description="Type of the image topic; auto: compressed where its name ends in /compressed.",
                choices=["auto", "raw", "compressed"],
            ),
            DeclareLaunchArgument(
                "camera_info", default_value="/camera/camera_info", description="Topic of the camera's calibration."
            ),
            DeclareLaunchArgument(
                "model", default_value="", description="Deployment model (.onnx); empty: the one of the package."
            ),
            DeclareLaunchArgument(
                "engine",
                default_value="auto",
                description="Inference engine; auto chooses by what is installed.",
                choices=list(ENGINE_KINDS),
            ),
            DeclareLaunchArgument(
                "rate",
                default_value="1.0",
                description="Recorded seconds a second, 0.01 to 100; below 1 on slow machines.",
            ),
            DeclareLaunchArgument(
                "loop",
                default_value="true",
                description="Play over and over, until Ctrl-C; false: end everything after the recording.",
                choices=["true", "false"],
            ),
            # It comes first: the DDS profile that it sets holds for the replay too.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(PathJoinSubstitution([share, "launch/segmentation.launch.py"])),
                launch_arguments={
                    name: LaunchConfiguration(name)
                    for name in ("image", "image_type", "camera_info", "model", "engine")
                }.items(),
            ),
            OpaqueFunction(function=_replay),
        ]
    )


def _replay(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    loops = LaunchConfiguration("loop").perform(context) == "true"
    arguments = ["replay", LaunchConfiguration("bag"), "--rate", LaunchConfiguration("rate")]
    arguments += ["--wait-for-subscribers", "1"]
    if loops:
        arguments.append("--loop")
    if LaunchConfiguration("use_sim_time").perform(context) == "true":
        arguments.append("--clock")  # nobody else would give the node its time
    return [
        Node(
            package="seg_perception",
            executable="seg_perception",
            name="replay",
            arguments=arguments,
            output="screen",
            on_exit=None if loops else Shutdown(),
        )
    ]
