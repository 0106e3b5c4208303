"""Starts one segmentation node for several cameras: one engine and one model serve them all.

    ros2 launch seg_perception multi_camera.launch.py cameras:=front,rear image:=/{camera}/image_raw
    ros2 launch seg_perception multi_camera.launch.py params_file:=cameras.yaml

Masks are on /segmentation/front/labels, /segmentation/rear/labels and so on. Topics are given for all cameras at once,
{camera} standing for the name of each, or for one: `front.image:=/realsense/color/image_raw`; so are all parameters that each
camera has for itself, such as `rear.max_rate_hz:=5.0` (docs/parameters.md). Everything else is as in segmentation.launch.py.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, SetLaunchConfiguration
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

CAMERAS, IMAGE = "front,rear", "{camera}/image_raw"  # where there is neither an argument nor a file
TEMPLATES = ("image", "camera_info", "body_mask")


def generate_launch_description() -> LaunchDescription:
    """Arguments, what they mean for each camera, and segmentation.launch.py with it."""
    share = FindPackageShare("seg_perception")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "cameras",
                default_value="",
                description=f"Names of the cameras, comma-separated [not given: those of params_file, else {CAMERAS}]",
            ),
            DeclareLaunchArgument(
                "image",
                default_value="",
                description="Topic of each camera's images, {camera} standing for its name [not given: params_file, "
                f"else {IMAGE}]",
            ),
            DeclareLaunchArgument(
                "camera_info",
                default_value="",
                description="Topic of each camera's calibration, such as {camera}/camera_info, passed on beside the masks "
                "[not given: params_file, else none]",
            ),
            DeclareLaunchArgument(
                "body_mask",
                default_value="",
                description="Image file of what each camera sees of the robot itself, such as /etc/robot/{camera}.png "
                "[not given: params_file, else none]",
            ),
            OpaqueFunction(function=_of_each_camera),
            # What is a template here is a parameter of the one camera without a name there.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(PathJoinSubstitution([share, "launch/segmentation.launch.py"])),
                launch_arguments={"cameras": LaunchConfiguration("cameras"), **dict.fromkeys(TEMPLATES, "")}.items(),
            ),
        ]
    )


def _of_each_camera(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Sets `front.image` and the like, where they are not given themselves."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ("cameras", *TEMPLATES)}
    if not context.launch_configurations.get("params_file"):  # declared by the file that is included further down
        given["cameras"] = given["cameras"] or CAMERAS
        given["image"] = given["image"] or IMAGE
    names = [name.strip(" []'\"") for name in given["cameras"].split(",") if name.strip(" []")]
    templates = {name: given[name] for name in TEMPLATES if given[name]}
    if templates and not names:
        raise RuntimeError(
            f"argument {next(iter(templates))} is for the cameras of the argument cameras, which is not given; in a "
            "params_file each camera has its own"
        )
    actions: list[LaunchDescriptionEntity] = [SetLaunchConfiguration("cameras", given["cameras"])]
    for plain, template in templates.items():
        if len(names) > 1 and "{camera}" not in template:
            raise RuntimeError(f"argument {plain} is {template}, expected {{camera}} in it: no two cameras share one")
        for name in names:
            if f"{name}.{plain}" not in context.launch_configurations:
                actions.append(SetLaunchConfiguration(f"{name}.{plain}", template.replace("{camera}", name)))
    return actions
