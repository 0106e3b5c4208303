"""Several cameras: one node for all against one node a camera, in turn; masks a second, age, memory, start to first mask.

    .venv-test/bin/python -m benchmarks.cameras

Cameras send the same picture of the shipped recording, each at --rate, all at once for --seconds. Masks a second are of
all cameras together, "least" those of the camera that got the fewest; ages are of all masks as they come in. Memory is
what the nodes' processes share in the machine's (PSS), under load. Start: from starting the processes until every camera
has a mask, images coming all the while. Median over --repeats, smallest and largest.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.camera import Camera, recorded_image
from benchmarks.running_node import ROOT, prober, running_nodes, spread
from seg_perception.image_memory import keep_freed_memory
from seg_perception.process.environment import describe_environment
from seg_perception.process.ros_environment import free_domain_id, ros_process_environment

SIZE = (480, 640)
MASKS = ("labels", "superpixels")


@dataclass(frozen=True)
class Figures:
    """Of one arrangement, once.

    Attributes:
        rate_hz, least_hz: masks a second of all cameras, and of the one with the fewest.
        p50_ms, p99_ms: age of masks.
        memory_mb: of all nodes.
        start_s: to the first mask of every camera.
    """

    rate_hz: float
    least_hz: float
    p50_ms: float
    p99_ms: float
    memory_mb: float
    start_s: float


def nodes_of(arrangement: str, names: list[str], common: dict[str, object]) -> dict[str, dict[str, object]]:
    """Parameters of each node: "one" for all cameras, or one for "each"."""
    if arrangement == "one":
        topics = {f"{name}.image": f"/{name}/image" for name in names}
        return {"all": {**common, "cameras": f"[{','.join(names)}]", **topics}}
    return {f"node_{name}": {**common, "image": f"/{name}/image"} for name in names}


def outputs_of(arrangement: str, name: str) -> str:
    """What the topics of a camera's masks begin with."""
    return f"/all/{name}" if arrangement == "one" else f"/node_{name}"


def measure(
    arrangement: str, count: int, args: argparse.Namespace, environment: dict[str, str], node: Any, rgb: np.ndarray
) -> Figures:
    """One arrangement of so many cameras, once."""
    names = [f"camera{number}" for number in range(count)]
    common = {"model": args.model, "engine": args.engine, "threads": args.threads, "precision": args.precision}
    cameras = [Camera(node, rgb, f"/{name}/image", outputs_of(arrangement, name), masks=MASKS) for name in names]
    try:
        with (
            running_nodes(environment, nodes_of(arrangement, names, common)) as nodes,
            ThreadPoolExecutor(count) as threads,
        ):
            started_s = nodes[0].started_s
            list(threads.map(Camera.connect, cameras))
            start_s = time.perf_counter() - started_s
            streams = list(threads.map(lambda camera: camera.stream(args.rate, args.seconds), cameras))
            memory_mb = sum(running.memory_mb() for running in nodes)
    finally:
        for camera in cameras:
            camera.close()
    ages_ms = np.concatenate([stream.ages_ms for stream in streams])
    rates = [stream.rate_hz for stream in streams]
    p50, p99 = np.percentile(ages_ms, (50, 99))
    return Figures(sum(rates), min(rates), float(p50), float(p99), memory_mb, start_s)


def row(count: int, arrangement: str, figures: list[Figures]) -> str:
    """Of the table."""
    title = "one node" if arrangement == "one" else "a node each"
    columns = [
        spread([f.rate_hz for f in figures]),
        spread([f.least_hz for f in figures]),
        spread([f.p50_ms for f in figures]),
        spread([f.p99_ms for f in figures]),
        spread([f.memory_mb for f in figures], 0),
        spread([f.start_s for f in figures]),
    ]
    return f"| {count} | {title} | {' | '.join(columns)} |"


def main(arguments: list[str] | None = None) -> int:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cameras", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=str(ROOT / "models/rooms_spt_lite0.onnx"))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rate", type=float, default=30.0, help="images a second of each camera (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of images, a repeat (%(default)s)")
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args(arguments)
    keep_freed_memory()
    environment = ros_process_environment(free_domain_id())
    print(f"`python -m benchmarks.cameras {' '.join(sys.argv[1:])}`\n")
    print("; ".join(f"{name}: {value}" for name, value in describe_environment().items()) + "\n")
    print(f"{SIZE[1]}x{SIZE[0]}, {args.rate:g} images a second of each camera.\n")
    print("| cameras | | masks/s | least of a camera | age p50 ms | age p99 ms | memory MB | start to first masks s |")
    print("|---|---|---|---|---|---|---|---|")
    rgb = recorded_image(str(ROOT / "bags/rooms_demo.mcap"), SIZE)
    with prober(environment) as node:
        for count in args.cameras:
            figures: dict[str, list[Figures]] = {"one": [], "each": []}
            for _ in range(args.repeats):
                for arrangement, found in figures.items():
                    found.append(measure(arrangement, count, args, environment, node, rgb))
            for arrangement, found in figures.items():
                print(row(count, arrangement, found), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
