"""segmentation.launch.py, run: one node with its parameters, names and life."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from seg_perception.process.ros_environment import PROFILES_VARIABLE
from test.launch.launching import LIMIT_S, Launched
from test.seg_perception.waiting import wait_until

Launch = Callable[..., Launched]
Tool = Callable[..., str]
ACTIVE = "active: listening to"


def test_the_node_comes_up_with_the_given_parameters(launch: Launch, tmp_path: Path, model: Path) -> None:
    file = tmp_path / "front.yaml"
    file.write_text("/**:\n  ros__parameters:\n    threads: 1\n    image: /overridden\n", encoding="utf-8")
    arguments = [f"model:={model}", "image:=/camera/image_raw", f"params_file:={file}", "name:=seg"]
    run = launch("segmentation.launch.py", *arguments, "namespace:=/front")
    run.wait_for(f"{ACTIVE} /camera/image_raw")  # the argument wins over the file
    assert "[front.seg]" in run.output
    assert "configured: model tiny" in run.output
    assert "1 thread" in run.output  # from the file
    assert run.interrupt() == 0, run.output
    assert "Traceback" not in run.output


@pytest.mark.parametrize("arguments", [[], ["dds_profile:=/etc/my.xml"], ["dds_profile:=none"]])
def test_the_node_gets_the_dds_profile_for_large_images_or_the_one_that_is_asked_for(
    launch: Launch, model: Path, arguments: list[str]
) -> None:
    run = launch("segmentation.launch.py", f"model:={model}", "autostart:=false", *arguments)
    run.wait_for("process started with pid")
    (pid,) = re.findall(r"process started with pid \[(\d+)\]", run.output)
    wait_until(lambda: "--ros-args" in Path(f"/proc/{pid}/cmdline").read_text(), LIMIT_S, "the node's command")
    given = dict(entry.partition("=")[::2] for entry in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    if arguments:
        assert given.get(PROFILES_VARIABLE, "none") == arguments[0].partition(":=")[2]
    else:
        assert given[PROFILES_VARIABLE].endswith("share/seg_perception/config/dds/fastdds_large_images.xml")


def test_a_value_that_does_not_fit_is_refused_by_the_node_in_one_line(launch: Launch, model: Path) -> None:
    run = launch("segmentation.launch.py", f"model:={model}", "threads:=-3")
    run.wait_for("cannot configure")
    refusal = next(line for line in run.output.splitlines() if "cannot configure" in line)
    assert "parameter threads" in refusal
    assert "-3" in refusal
    assert "expected int, 0 to 256" in refusal
    assert run.interrupt() == 0, run.output


def test_a_parameter_file_that_is_not_there_is_said_before_anything_is_started(launch: Launch) -> None:
    run = launch("segmentation.launch.py", "params_file:=/no/such.yaml")
    assert run.wait() == 1
    assert "params_file /no/such.yaml is no file" in run.output
    assert "process started" not in run.output


def test_a_node_that_is_killed_comes_back_to_work(launch: Launch, model: Path) -> None:
    run = launch("segmentation.launch.py", f"model:={model}", "engine:=onnxruntime")
    run.wait_for(ACTIVE)
    pid = killed(run)
    run.wait_for(ACTIVE, 2)
    assert f"process has died [pid {pid}, exit code -9" in run.output
    assert run.interrupt() == 0


def test_without_respawn_the_launch_ends_with_its_node(launch: Launch, model: Path) -> None:
    run = launch("segmentation.launch.py", f"model:={model}", "engine:=onnxruntime", "respawn:=false")
    run.wait_for(ACTIVE)
    killed(run)
    run.wait()
    assert run.output.count("process started with pid") == 1


def killed(run: Launched) -> int:
    """Kills the only process that was started; its id."""
    (pid,) = re.findall(r"process started with pid \[(\d+)\]", run.output)
    os.kill(int(pid), signal.SIGKILL)
    return int(pid)


def test_a_lifecycle_manager_owns_a_node_that_does_not_start_itself(launch: Launch, tool: Tool, model: Path) -> None:
    """The requests of `ros2 lifecycle` are those of any manager."""
    run = launch("segmentation.launch.py", f"model:={model}", "autostart:=false", "name:=seg", "engine:=onnxruntime")
    run.wait_for("process started with pid")

    def lifecycle(verb: str, *arguments: str) -> str:
        return tool("lifecycle", verb, "--no-daemon", "--spin-time", "3", "/seg", *arguments)

    for transition in ("configure", "activate"):
        assert "configured: model" not in run.output or transition == "activate"
        assert "Transitioning successful" in lifecycle("set", transition)
    run.wait_for(ACTIVE)
    assert lifecycle("get").startswith("active")
    assert run.output.count(ACTIVE) == 1
    assert run.interrupt() == 0


INCLUDING = """
from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import PushRosNamespace, SetRemap
from launch_ros.substitutions import FindPackageShare


def generate_launch_description():
    source = PythonLaunchDescriptionSource(
        PathJoinSubstitution([FindPackageShare("seg_perception"), "launch/segmentation.launch.py"])
    )
    given = {"model": MODEL, "engine": "onnxruntime", "remappings": "~/overlay:=/look, ~/confidence:=sure"}
    node = IncludeLaunchDescription(source, launch_arguments=given.items())
    return LaunchDescription([GroupAction([PushRosNamespace("robot"), SetRemap("~/labels", "/semantic"), node])])
"""


def test_a_robots_own_launch_file_gives_namespace_and_topics_other_names(
    launch: Launch, tool: Tool, tmp_path: Path, model: Path
) -> None:
    file = tmp_path / "robot.launch.py"
    file.write_text(INCLUDING.replace("MODEL", repr(str(model))), encoding="utf-8")
    run = launch(str(file))
    run.wait_for(f"{ACTIVE} /robot/image")
    topics = set(tool("topic", "list", "--no-daemon", "--spin-time", "5").split())
    assert {"/semantic", "/look", "/robot/sure", "/robot/segmentation/superpixels"} <= topics
    assert not {f"/robot/segmentation/{name}" for name in ("labels", "overlay", "confidence")} & topics
    assert run.interrupt() == 0


def test_a_remapping_that_is_none_is_refused(launch: Launch) -> None:
    run = launch("segmentation.launch.py", "remappings:=~/labels=/x")
    assert run.wait() == 1
    assert "remappings are '~/labels=/x', expected FROM:=TO, comma-separated" in run.output
