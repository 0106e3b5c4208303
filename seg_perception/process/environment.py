"""What a result was obtained on: processor, system, library versions."""

from __future__ import annotations

import os
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

from seg_perception import __version__


def describe_environment() -> dict[str, str]:
    """Facts about this machine and installation, for reports."""
    return {
        "seg_perception": __version__,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": f"{_usable_cores()} usable",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def _processor() -> str:
    # Jetson and other boards name themselves here; /proc/cpuinfo has no model name on ARM.
    board = Path("/proc/device-tree/model")
    if board.exists():
        return board.read_text(errors="replace").rstrip("\0")
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        for line in cpu_info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))  # what a container or taskset leaves to this process
    return os.cpu_count() or 1
