"""What the tests of launch files share: a domain of their own, and runs that end with the test."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from seg_perception.process.ros_environment import PROFILES_VARIABLE, free_domain_id, ros_process_environment
from test.launch.launching import LIMIT_S, Launched, ros2
from test.seg_perception.tiny_model import write_tiny_model


@pytest.fixture
def installed() -> None:
    """Skips where launch, or this package among those that it knows, is missing."""
    # `launch` alone will not do: the folder launch/ of this repository would be found.
    if find_spec("launch_ros") is None or find_spec("ros2cli") is None:
        pytest.skip("needs launch, launch_ros and ros2cli, which only a ROS 2 installation has (they are not on PyPI)")
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        get_package_prefix("seg_perception")
    except PackageNotFoundError:
        pytest.skip("needs seg_perception in the ament index: colcon build, then source install/setup.bash")


@pytest.fixture
def environment(installed: None, tmp_path: Path) -> dict[str, str]:
    """A domain of its own, none of the caller's DDS profiles, and the logs out of the way."""
    environment = ros_process_environment(free_domain_id())
    del environment[PROFILES_VARIABLE]
    environment["ROS_LOG_DIR"] = str(tmp_path / "log")
    return environment


@pytest.fixture
def launch(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Launched]]:
    """Starts launch files, of the package by their name alone, and ends what is left of them."""
    runs: list[Launched] = []

    def start(file: str, *arguments: str) -> Launched:
        command = [file, *arguments] if file.startswith("/") else ["seg_perception", file, *arguments]
        runs.append(Launched(command, environment, tmp_path / f"launch_{len(runs)}.log"))
        return runs[-1]

    yield start
    for run in runs:
        run.kill()


@pytest.fixture
def tool(environment: dict[str, str]) -> Callable[..., str]:
    """Runs a `ros2` command beside what is launched; what it prints."""

    def run(*arguments: str) -> str:
        result = subprocess.run(
            ros2(*arguments),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny model."""
    return write_tiny_model(tmp_path / "tiny.onnx")
