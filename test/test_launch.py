"""The launch files: run for real where `launch` is installed, read as Python everywhere."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_perception.process.ros_environment import PROFILES_VARIABLE, free_domain_id, ros_process_environment
from seg_perception.ros.parameters import PARAMETERS
from test.seg_perception.tiny_bag import compressed_message, write_bag
from test.seg_perception.tiny_model import INPUT_SIZE, tiny_labels, write_tiny_model

ROOT = Path(__file__).parents[1]
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
# `launch` alone will not do: the folder launch/ of this repository would be found.
needs_launch = pytest.mark.skipif(
    find_spec("launch_ros") is None,
    reason="needs launch and launch_ros, which only a ROS 2 installation has (they are not on PyPI)",
)


def test_the_launch_files_are_there() -> None:
    assert {path.name.partition(".")[0] for path in LAUNCH_FILES} >= {"demo", "evaluate", "segmentation"}


@pytest.fixture(params=LAUNCH_FILES, ids=lambda path: path.name)
def tree(request: pytest.FixtureRequest) -> ast.Module:
    text = request.param.read_text(encoding="utf-8")
    compile(text, request.param, "exec")
    return ast.parse(text)


def calls(tree: ast.Module, *names: str) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
    ]


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def test_every_argument_is_described_and_has_a_default(tree: ast.Module) -> None:
    declared = calls(tree, "DeclareLaunchArgument")
    assert declared
    for call in declared:
        assert keyword(call, "default_value") is not None, ast.unparse(call)
        description = keyword(call, "description")
        assert description is not None, ast.unparse(call)
        assert len(ast.unparse(description)) > 15, ast.unparse(call)


def test_executables_are_those_that_the_package_installs(tree: ast.Module) -> None:
    scripts = set(re.findall(r'"(\w+) = [\w.]+:main"', (ROOT / "setup.py").read_text(encoding="utf-8")))
    nodes = calls(tree, "Node", "LifecycleNode", "ExecutableInPackage")
    assert nodes
    for call in nodes:
        package, executable = keyword(call, "package"), keyword(call, "executable")
        assert isinstance(package, ast.Constant)
        assert package.value == "seg_perception"
        assert isinstance(executable, ast.Constant)
        assert executable.value in scripts


def test_files_that_are_referred_to_exist(tree: ast.Module) -> None:
    paths = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"(launch|config|bags|models)/\S+", node.value)
    ]
    assert paths
    for path in paths:
        assert (ROOT / path).is_file(), path


def test_arguments_that_are_used_are_declared(tree: ast.Module) -> None:
    declared = {ast.literal_eval(call.args[0]) for call in calls(tree, "DeclareLaunchArgument") if _is_text(call)}
    if any(not _is_text(call) for call in calls(tree, "DeclareLaunchArgument")):
        declared |= {parameter.name for parameter in PARAMETERS}  # declared in a loop over the node's parameters
    used = {ast.literal_eval(call.args[0]) for call in calls(tree, "LaunchConfiguration") if _is_text(call)}
    assert used <= declared


def _is_text(call: ast.Call) -> bool:
    return isinstance(call.args[0], ast.Constant)


def launched(
    arguments: list[str], environment: dict[str, str], log: Path, wanted: str | None, limit_s: float = 60.0
) -> tuple[int, str]:
    """Run `ros2 launch` until `wanted` shows in its output, then Ctrl-C; None: until it ends. Exit code, output."""
    command = [sys.executable, "-c", "from ros2cli.cli import main; raise SystemExit(main())", "launch", *arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        deadline = time.monotonic() + limit_s
        asked = False
        try:
            while process.poll() is None and time.monotonic() < deadline:
                if wanted is not None and not asked and wanted in log.read_text(encoding="utf-8"):
                    asked = True
                    process.send_signal(signal.SIGINT)  # without a terminal, launch itself passes it on
                time.sleep(0.05)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.wait(), log.read_text(encoding="utf-8")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A domain of its own, none of the caller's DDS profiles, and the logs out of the way."""
    environment = ros_process_environment(free_domain_id())
    del environment[PROFILES_VARIABLE]
    environment["ROS_LOG_DIR"] = str(tmp_path / "log")
    return environment


@needs_launch
def test_the_node_comes_up_with_the_given_parameters_and_the_shipped_dds_profile(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    _needs_installed_package()
    model = write_tiny_model(tmp_path / "1.onnx")
    file = tmp_path / "front.yaml"
    file.write_text("/**:\n  ros__parameters:\n    threads: 1\n    image: /overridden\n", encoding="utf-8")
    arguments = [
        f"model:={model}",
        "image:=/camera/image_raw",
        f"params_file:={file}",
        "name:=seg",
        "namespace:=/front",
    ]
    code, output = launched(
        ["seg_perception", "segmentation.launch.py", *arguments], environment, tmp_path / "out", "active: listening"
    )
    assert "[front.seg]" in output
    assert "configured: model tiny" in output
    assert "1 thread" in output  # from the file
    assert "active: listening to /camera/image_raw" in output  # the argument wins over the file
    assert code == 0, output
    assert "Traceback" not in output


@needs_launch
def test_a_value_that_does_not_fit_is_refused_by_the_node_in_one_line(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    _needs_installed_package()
    model = write_tiny_model(tmp_path / "tiny.onnx")
    arguments = [f"model:={model}", "threads:=-3"]
    code, output = launched(
        ["seg_perception", "segmentation.launch.py", *arguments], environment, tmp_path / "out", "cannot configure"
    )
    refusal = next(line for line in output.splitlines() if "cannot configure" in line)
    assert "parameter threads" in refusal
    assert "-3" in refusal
    assert "expected int, 0 to 256" in refusal
    assert code == 0, output


@needs_launch
def test_the_demo_plays_once_through_the_node_and_ends_by_itself(tmp_path: Path, environment: dict[str, str]) -> None:
    _needs_installed_package()
    model = write_tiny_model(tmp_path / "tiny.onnx")
    messages: list[tuple[str, int, Any]] = [
        ("/image", n * 10**8, compressed_message(np.full((24, 32, 3), 20 * n, np.uint8), n * 10**8, "png"))
        for n in range(5)
    ]
    bag = write_bag(tmp_path / "bag", messages)
    arguments = [f"model:={model}", f"bag:={bag}", "image:=/image", "image_type:=compressed", "loop:=false"]
    code, output = launched(["seg_perception", "demo.launch.py", *arguments], environment, tmp_path / "out", None)
    assert "messages on 1 topics" in output
    assert "was required: shutting down" in output
    assert code == 0, output


@needs_launch
@pytest.mark.parametrize("how", ["play", "read"])
def test_evaluate_scores_a_recording_either_way_and_ends_by_itself(
    tmp_path: Path, environment: dict[str, str], how: str
) -> None:
    _needs_installed_package()
    model = write_tiny_model(tmp_path / "tiny.onnx")
    messages: list[tuple[str, int, Any]] = []
    for n in range(4):
        rgb = np.random.default_rng(n).integers(0, 256, (*INPUT_SIZE, 3), np.uint8)
        stamp_ns = 10**9 + n * 200_000_000
        messages.append(("/image", stamp_ns, compressed_message(rgb, stamp_ns, "png")))
        messages.append(("/truth", stamp_ns, compressed_message(tiny_labels(rgb), stamp_ns, "png")))
    bag, out = write_bag(tmp_path / "bag", messages), tmp_path / "out"
    arguments = [f"how:={how}", f"bag:={bag}", f"model:={model}", "labels:=/truth", f"out:={out}", "video:=false"]
    code, output = launched(
        ["seg_perception", "evaluate.launch.py", *arguments], environment, tmp_path / "log.txt", None, 90.0
    )
    assert code == 0, output
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["pixel_accuracy"] == 1.0
    assert report["frames_out"] >= 2  # a busy machine may let the node miss a frame
    assert (out / "node.log").exists() == (how == "play")
    assert (out / "video.mp4").exists() is False


@needs_launch
def test_evaluate_without_a_score_says_why_and_exits_with_1(tmp_path: Path, environment: dict[str, str]) -> None:
    _needs_installed_package()
    arguments = ["how:=read", f"bag:={tmp_path / 'gone.mcap'}", f"out:={tmp_path / 'out'}"]
    code, output = launched(
        ["seg_perception", "evaluate.launch.py", *arguments], environment, tmp_path / "log.txt", None
    )
    assert code == 1
    assert "gone.mcap does not exist; give a rosbag2 folder" in output
    assert "no score: seg_perception ended with exit code 2" in output


@needs_launch
@pytest.mark.parametrize("file", LAUNCH_FILES, ids=lambda path: path.name)
def test_show_args_reads_well(tmp_path: Path, environment: dict[str, str], file: Path) -> None:
    _needs_installed_package()
    code, output = launched(["seg_perception", file.name, "--show-args"], environment, tmp_path / "log.txt", None)
    assert code == 0, output
    assert "Traceback" not in output
    described = re.findall(r"^    '(\w+)':\n        (.+)\n", output, re.MULTILINE)
    assert len(described) > 5
    for name, text in described:
        assert len(text) > 15, name
        assert "no description given" not in text, name
        assert "e+0" not in text, name  # a number that nobody reads


def _needs_installed_package() -> None:
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        get_package_prefix("seg_perception")
    except PackageNotFoundError:
        pytest.skip("needs seg_perception in the ament index: colcon build, then source install/setup.bash")
