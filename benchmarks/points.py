"""Labelled points of a 640x480 camera on one core, beside the same with numpy's whole-array operations.

    .venv-test/bin/python -m benchmarks.points          # needs no ROS

`to points` is the library's step alone; `to bytes` ends with the serialized sensor_msgs/PointCloud2 that the node publishes.
`numpy` computes the same points from the depth with whole arrays. All in turn, in a process that is held to one core.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np

from seg_perception import cloud
from seg_perception.cdr import Header
from seg_perception.cdr_cloud import write_cloud
from seg_perception.cloud import POINT, DepthProjector, Intrinsics, label_cloud

SIZE = (480, 640)
CAMERA = Intrinsics(525.0, 525.0, 319.5, 239.5, SIZE)
HEADER = Header(1, 2, b"camera_depth_optical_frame")


def by_numpy(depth: np.ndarray, rgb: np.ndarray, labels: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """POINT [N] as one would write it: millimetres, points without depth left out."""
    z = depth.astype(np.float32) * np.float32(1e-3)
    seen = z > 0
    down, across = np.indices(SIZE, np.float32)
    points = np.zeros(SIZE, POINT)
    points["x"], points["y"], points["z"] = (across - CAMERA.cx) / CAMERA.fx * z, (down - CAMERA.cy) / CAMERA.fy * z, z
    for channel, name in enumerate("rgb"):
        points[name] = rgb[..., channel]
    points["label"], points["confidence"] = labels, confidence
    chosen: np.ndarray = points[seen]
    return chosen


def contestants() -> dict[str, Callable[[], object]]:
    """What is timed, by name. A tenth of the pixels has no depth."""
    rng = np.random.default_rng(0)
    depth = rng.integers(300, 8000, SIZE).astype(np.uint16)
    depth[rng.random(SIZE) < 0.1] = 0
    metres = np.where(depth > 0, depth.astype(np.float32) / 1000, np.float32(np.nan))
    rgb = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    labels, confidence = rng.integers(0, 16, SIZE, np.uint8), rng.integers(0, 256, SIZE, np.uint8)
    masks = (rgb, labels, confidence)
    dense, organised = DepthProjector(), DepthProjector(keep_invalid=True)
    xyz = np.stack([organised.points(metres, CAMERA, *masks)[name] for name in "xyz"], -1)
    small = tuple(np.ascontiguousarray(mask[::2, ::2]) for mask in masks)
    return {
        "uint16 depth, to points": lambda: dense.points(depth, CAMERA, *masks),
        "uint16 depth, to bytes": lambda: write_cloud(HEADER, dense.points(depth, CAMERA, *masks), True),
        "float32 depth, to bytes": lambda: write_cloud(HEADER, dense.points(metres, CAMERA, *masks), True),
        "float32 depth, to bytes, NaN kept": lambda: write_cloud(HEADER, organised.points(metres, CAMERA, *masks), False),
        "float32 depth, masks of 320x240, to bytes": lambda: write_cloud(HEADER, dense.points(metres, CAMERA, *small), True),
        "organised cloud, to bytes": lambda: write_cloud(HEADER, label_cloud(xyz, *masks), True),
        "uint16 depth, to points, numpy": lambda: by_numpy(depth, *masks),
    }


def table(runs: int) -> str:
    """Milliseconds as markdown."""
    work = contestants()
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(runs + 3):
        for name, step in work.items():
            begin_s = perf_counter()
            step()
            times[name].append(1e3 * (perf_counter() - begin_s))
    lines = ["| 640x480 | ms | range |", "|---|---|---|"]
    for name, taken in times.items():
        counted = taken[3:]
        lines.append(f"| {name} | {statistics.median(counted):.1f} | {min(counted):.1f}-{max(counted):.1f} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.points", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=60)
    args = parser.parse_args(arguments)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cloud.warm_up()
    print(table(args.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
