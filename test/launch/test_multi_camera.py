"""multi_camera.launch.py, run: several cameras of one node, named by arguments or by a file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from test.launch.launching import Launched
from test.seg_perception.tiny_bag import image_message, write_bag
from test.seg_perception.tiny_model import INPUT_SIZE

Launch = Callable[..., Launched]
Tool = Callable[..., str]
ACTIVE = "active: listening to"


@pytest.fixture
def common(model: Path) -> list[str]:
    """Arguments of every run."""
    return ["multi_camera.launch.py", f"model:={model}", "engine:=onnxruntime"]


def test_cameras_by_argument_with_a_template_and_one_of_its_own(launch: Launch, common: list[str]) -> None:
    arguments = ["cameras:=front,rear,top", "image:=/{camera}/image_raw", "rear.image:=/realsense/color/compressed"]
    run = launch(*common, *arguments, "rear.max_rate_hz:=5", "top.enabled:=false", "namespace:=/robot")
    run.wait_for(ACTIVE)
    line = next(line for line in run.output.splitlines() if ACTIVE in line)
    assert "[robot.segmentation]" in line
    assert "/front/image_raw" in line
    assert "/realsense/color/compressed" in line
    assert "/rear/image_raw" not in run.output
    assert run.interrupt() == 0, run.output
    assert "Traceback" not in run.output


def test_without_arguments_there_are_front_and_rear(launch: Launch, common: list[str]) -> None:
    run = launch(*common)
    run.wait_for(f"{ACTIVE} /front/image_raw, /rear/image_raw")
    assert run.interrupt() == 0, run.output


def test_cameras_by_a_parameter_file(launch: Launch, common: list[str], tmp_path: Path) -> None:
    file = tmp_path / "cameras.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    cameras: [left, right]\n    left:\n      image: /l/image\n    right:\n"
        "      image: /r/image\n      max_rate_hz: 5.0\n",
        encoding="utf-8",
    )
    run = launch(*common, f"params_file:={file}", "right.image:=/other/image")
    run.wait_for(f"{ACTIVE} /l/image, /other/image")  # the argument wins over the file
    assert run.interrupt() == 0, run.output


def from_docs(kind: str, text: str) -> str:
    """The block of docs/launch.md that holds a text."""
    page = (Path(__file__).parents[2] / "docs/launch.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) if text in block]
    return block


def test_the_parameter_file_of_the_docs_is_one(launch: Launch, common: list[str], tmp_path: Path) -> None:
    body = tmp_path / "body.png"
    cv2.imwrite(str(body), np.eye(64, dtype=np.uint8) * 255)
    file = tmp_path / "cameras.yaml"
    file.write_text(from_docs("yaml", "body_mask").replace("/opt/robot/rear_body.png", str(body)), encoding="utf-8")
    run = launch(*common, f"params_file:={file}")
    run.wait_for(f"{ACTIVE} /front/color/image_raw, /rear/image_raw/compressed")
    assert "/wrist" not in run.output  # not enabled
    assert run.interrupt() == 0, run.output


def test_the_launch_file_of_the_docs_is_one(launch: Launch, tool: Tool, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "robot.launch.py"
    text = from_docs("python", "multi_camera").replace(
        '"cameras": "front,rear"', f'"model": {str(model)!r}, "engine": "onnxruntime", "cameras": "front,rear"'
    )
    end = "\n\ndef generate_launch_description():\n    return LaunchDescription([segmentation])\n"
    file.write_text(f"from launch import LaunchDescription\n{text}{end}", encoding="utf-8")
    run = launch(str(file))
    run.wait_for(f"{ACTIVE} /front/image_raw, /rear/image_raw")
    topics = set(tool("topic", "list", "--no-daemon", "--spin-time", "5").split())
    assert {"/semantic", "/robot/segmentation/rear/labels"} <= topics
    assert "/robot/segmentation/front/labels" not in topics
    assert run.interrupt() == 0, run.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["image:=/camera/image_raw"], "argument image is /camera/image_raw, expected {camera} in it"),
        (["cameras:=front", "front.imge:=/x"], "argument front.imge: a camera has no parameter imge, only image, "),
        (
            ["cameras:=front", "front.engine:=auto"],
            "argument front.engine: a camera has no parameter engine, only image",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_started(
    launch: Launch, common: list[str], arguments: list[str], said: str
) -> None:
    run = launch(*common, *arguments)
    assert run.wait() == 1
    assert said in run.output
    assert "process started" not in run.output


def test_a_template_without_names_is_refused(launch: Launch, common: list[str], tmp_path: Path) -> None:
    file = tmp_path / "cameras.yaml"
    file.write_text("/**:\n  ros__parameters:\n    cameras: [left, right]\n", encoding="utf-8")
    run = launch(*common, f"params_file:={file}", "image:=/{camera}/image_raw")
    assert run.wait() == 1
    assert "argument image is for the cameras of the argument cameras, which is not given" in run.output


def test_a_camera_name_that_cannot_be_is_refused_by_the_node(launch: Launch, common: list[str]) -> None:
    run = launch(*common, "cameras:=front,2nd")
    run.wait_for("cannot configure")
    assert "parameter cameras is ['front', '2nd'], expected" in run.output
    assert run.interrupt() == 0, run.output


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two cameras with images of two sizes, 10 a second."""
    messages: list[tuple[str, int, Any]] = []
    for number in range(30):
        for name, scale in (("front", 1), ("rear", 2)):
            rgb = np.full((scale * INPUT_SIZE[0], scale * INPUT_SIZE[1], 3), 5 * number, np.uint8)
            messages.append((f"/{name}/image_raw", number * 10**8, image_message(rgb, number * 10**8, "rgb8")))
    return write_bag(tmp_path / "bag", messages)


def test_every_camera_is_served_as_the_ros2_tools_see_it(
    launch: Launch, tool: Tool, common: list[str], recording: Path, tmp_path: Path
) -> None:
    run = launch(*common, "image:=/{camera}/image_raw")
    run.wait_for(ACTIVE)
    player = tmp_path / "player.launch.py"
    player.write_text(
        "from launch import LaunchDescription\nfrom launch_ros.actions import Node\n"
        "def generate_launch_description():\n"
        f"    arguments = ['replay', {str(recording)!r}, '--loop']\n"
        "    return LaunchDescription([Node(package='seg_perception', executable='seg_perception', name='player', "
        "arguments=arguments)])\n",
        encoding="utf-8",
    )
    playing = launch(str(player))
    for name, scale in (("front", 1), ("rear", 2)):
        echo = ["topic", "echo", "--no-daemon", "--once", "--no-arr", f"/segmentation/{name}/labels"]
        mask = tool(*echo, "sensor_msgs/msg/Image")
        assert f"height: {scale * INPUT_SIZE[0]}" in mask
        assert "encoding: mono8" in mask
    status = tool("topic", "echo", "--no-daemon", "--once", "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    assert set(re.findall(r"name: '?(/segmentation: \w+)", status)) >= {"/segmentation: front", "/segmentation: rear"}
    assert playing.interrupt() == 0
    assert run.interrupt() == 0
