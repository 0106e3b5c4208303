"""Scores a model on a recording: played through the node as on a robot, or read as fast as the machine can.

    ros2 launch seg_perception evaluate.launch.py bag:=drive.mcap labels:=/camera/labels out:=out/drive

The folder `out` gets report.html, report.json and, on request, a video. Everything ends with the score; the exit code of the
launch is 1 where there is none.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

from seg_perception.engines.select import ENGINE_KINDS, PRECISION_CHOICES


def generate_launch_description() -> LaunchDescription:
    """Arguments, and the one process that does it."""
    share = FindPackageShare("seg_perception")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "bag",
                default_value=PathJoinSubstitution([share, "bags/rooms_demo.mcap"]),
                description="Recording to score on: a rosbag2 folder, .mcap or .db3.",
            ),
            DeclareLaunchArgument(
                "how",
                default_value="play",
                description="play: through the node's process over DDS with the recording's timing, drops and latencies as "
                "on a robot; read: every image, without ROS, as fast as it goes.",
                choices=["play", "read"],
            ),
            DeclareLaunchArgument(
                "out", default_value="out/evaluate", description="Folder for report and video; it is made."
            ),
            DeclareLaunchArgument(
                "model",
                default_value=PathJoinSubstitution([share, "models/rooms_spt_lite0.onnx"]),
                description="Deployment model (.onnx); by default the one of the package.",
            ),
            DeclareLaunchArgument(
                "image",
                default_value="",
                description="Topic of the camera images; empty: the recording's only one beside the labels.",
            ),
            DeclareLaunchArgument(
                "labels",
                default_value="/camera/labels",
                description="Topic of the true classes (mono8 or PNG, 255 = not labelled); none: timed and shown, not "
                "scored.",
            ),
            DeclareLaunchArgument(
                "classes",
                default_value="",
                description="Of how:=read. The node's classes file, which merges masks and true labels before they are "
                "compared; empty: the model's own classes.",
            ),
            DeclareLaunchArgument(
                "engine",
                default_value="auto",
                description="Inference engine; auto chooses by what is installed.",
                choices=list(ENGINE_KINDS),
            ),
            DeclareLaunchArgument(
                "threads", default_value="0", description="CPU threads of one inference; 0 leaves it to the engine."
            ),
            DeclareLaunchArgument(
                "precision",
                default_value="f32",
                description="Of how:=read. f32 compares between machines; fast: shorter floats; auto: as the node.",
                choices=list(PRECISION_CHOICES),
            ),
            DeclareLaunchArgument(
                "rate",
                default_value="1.0",
                description="Of how:=play. Recorded seconds a second; below 1 on slow machines.",
            ),
            DeclareLaunchArgument(
                "seconds", default_value="0", description="Of how:=play. Recorded seconds to play; 0: all."
            ),
            DeclareLaunchArgument(
                "max_frames", default_value="0", description="Of how:=read. Images to score on; 0: all."
            ),
            DeclareLaunchArgument(
                "video",
                default_value="true",
                description="Of how:=read. Also a video of camera, labels and superpixels; play always makes one.",
                choices=["true", "false"],
            ),
            OpaqueFunction(function=_process),
        ]
    )


def _process(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    if given("how") == "play":
        arguments = ["demo", "--bag", given("bag"), "--rate", given("rate"), "--seconds", given("seconds")]
    else:
        arguments = ["evaluate-bag", given("bag"), "--precision", given("precision")]
        arguments += ["--max-frames", given("max_frames")]
        if given("video") == "true":
            arguments.append("--video")
    arguments += ["--model", given("model"), "--out", given("out")]
    arguments += ["--engine", given("engine"), "--threads", given("threads")]
    options = [("--image-topic", "image"), ("--label-topic", "labels")]
    if given("how") == "read":
        options.append(("--classes", "classes"))
    for option, name in options:
        if given(name) not in ("", "none"):  # `ros2 launch` takes no empty value
            arguments += [option, given(name)]
    return [
        # No Node action: the command is none, and what launch adds for nodes would be taken for its arguments.
        ExecuteProcess(
            cmd=[ExecutableInPackage(package="seg_perception", executable="seg_perception"), *arguments],
            name="evaluate",
            output="screen",
            on_exit=_ended,
        )
    ]


def _ended(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """End the launch; a score that there is not makes its exit code 1."""
    if event.returncode:
        raise RuntimeError(f"no score: seg_perception ended with exit code {event.returncode}; its last line says why")
    return [Shutdown(reason="scored")]
