"""The wall between the packages: each imports whole while the other side's dependencies cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

TRAINING_SIDE = ("torch", "torchvision", "timm", "lightning", "torchmetrics", "onnxscript", "seg_models")
ROBOT_SIDE = ("rclpy", "sensor_msgs", "std_msgs", "cv_bridge", "seg_perception")


PROGRAM = """
import importlib, pkgutil, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is on the other side of the wall")

sys.meta_path.insert(0, Wall())
package = importlib.import_module(PACKAGE)
names = [PACKAGE] + [m.name for m in pkgutil.walk_packages(package.__path__, PACKAGE + ".")]
missing = []
for name in names:
    if name.endswith("__main__"):
        continue
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in ALLOWED_MISSING:
            missing.append(name)
            continue
        raise SystemExit(f"{name}: {error}")
    except ImportError as error:
        raise SystemExit(f"{name}: {error}")
print(len(names) - len(missing), "modules;", "left out:", *missing)
"""


def import_all(package: str, blocked: tuple[str, ...], allowed_missing: tuple[str, ...]) -> str:
    """Import every module of a package in a fresh interpreter behind the wall; what it printed."""
    program = PROGRAM.replace("PACKAGE", repr(package)).replace("BLOCKED", repr(blocked))
    program = program.replace("ALLOWED_MISSING", repr(allowed_missing))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_robots_package_needs_nothing_of_training():
    pytest.importorskip(
        "rclpy", reason="needs rclpy: source a ROS 2 installation, or pip install 'seg_perception[ros]'"
    )
    printed = import_all("seg_perception", TRAINING_SIDE, ())
    assert int(printed.split()[0]) > 20


def test_the_training_package_needs_nothing_of_the_robot():
    # bpy and infinigen: the generator's modules that run inside Blender's Python
    printed = import_all("seg_models", ROBOT_SIDE, ("bpy", "infinigen", "mathutils"))
    assert int(printed.split()[0]) > 20


def test_what_both_sides_share_needs_neither_of_them():
    assert import_all("seg_onnx", (*TRAINING_SIDE, *ROBOT_SIDE, "cv2"), ()).startswith("2 modules")


def test_the_robots_package_imports_without_tensorrt_cuda_and_onnx():
    pytest.importorskip(
        "rclpy", reason="needs rclpy: source a ROS 2 installation, or pip install 'seg_perception[ros]'"
    )
    printed = import_all("seg_perception", (*TRAINING_SIDE, "tensorrt", "tensorrt_rtx", "cuda", "onnx"), ())
    assert int(printed.split()[0]) > 20


def test_the_robots_package_reads_models_and_bags_without_ros():
    blocked = (
        *TRAINING_SIDE,
        "rclpy",
        "sensor_msgs",
        "std_msgs",
        "diagnostic_msgs",
        "lifecycle_msgs",
        "builtin_interfaces",
    )
    # The folder `ros` speaks ROS; the launch files read the node's parameters from it, and they run without rclpy.
    needs_ros = (
        "bag.replay",
        "process.demo",
        "process.mask_listener",
        "ros.",
        "view.node_outputs",
        "view.topics",
    )
    without_ros = ("ros.parameters",)
    program = PROGRAM.replace("BLOCKED", repr(blocked)).replace("PACKAGE", "'seg_perception'")
    program = program.replace("ALLOWED_MISSING", "()").replace(
        'if name.endswith("__main__"):',
        f'short = name.removeprefix("seg_perception.")\n'
        f"    if short.startswith({needs_ros!r}) and not short.startswith({without_ros!r}):",
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
