"""Image-to-mask latency, frame rate and age of masks of the node, beside an echo and the plainest node, in one run.

    python -m benchmarks.node_latency --model models/rooms_spt_lite0.onnx

Each node runs in a process of its own and gets the same picture of the shipped recording as rgb8 over DDS from this
process, which notes when the masks (labels and superpixels) of which image are back. They take turns --repeats times:

- node: the segmentation node.
- echo: takes the bytes of an image and at once publishes masks of its size (`echo_node.py`).
- plain: segments in the camera callback, with the same engine (`plain_node.py`).
- bare: the engine and painting in a loop, without ROS (`Segmenter`), the yardstick under load.

Latency: one image at a time, the next one after the answer; from publish to both masks here. The node's own share is its
latency less the echo's, less engine and painting as it tells them in its diagnostics: what reading, resizing, handing
over and counting cost. Under load: images at --overload times the rate of the bare engine with painting; masks a second
as a share of that rate, and the age of masks as they come in. With --memory the node's resident memory is noted once a
second under load, and its slope given. The tables give the median over the repeats and the smallest and largest.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.camera import TOPIC, Camera, Stream, recorded_image
from seg_perception.image_memory import keep_freed_memory
from seg_perception.process.environment import describe_environment
from seg_perception.process.ros_environment import free_domain_id, ros_process_environment
from seg_perception.segmenter import Segmenter

ROOT = Path(__file__).parents[1]
SIZES = {"640x480": (480, 640), "1920x1080": (1080, 1920)}
KINDS = ("node", "plain", "echo")
PAINTING = "paint"  # the stage's name in timings and diagnostics


@dataclass
class Figures:
    """Of one kind at one size in one repeat; milliseconds. `stream` is None for the echo."""

    latency_ms: float
    latency_p95_ms: float
    engine_ms: float
    painting_ms: float
    stream: Stream | None
    memory_mb: np.ndarray


def bare_ms(args: argparse.Namespace, rgb: np.ndarray) -> tuple[float, float]:
    """Median milliseconds of engine and painting without ROS."""
    with Segmenter(args.model, args.engine, args.threads, args.precision) as segmenter:
        segmenter.warm_up()
        timings = [segmenter.segment(rgb, want_confidence=False).timings_ms for _ in range(args.frames)]
    return median(t["infer"] for t in timings), median(t[PAINTING] for t in timings)


@contextmanager
def running(kind: str, args: argparse.Namespace, environment: dict[str, str]) -> Iterator[int]:
    """A node's process; gives its id."""
    settings = {"model": args.model, "engine": args.engine, "threads": str(args.threads), "precision": args.precision}
    if kind == "node":
        command = ["-m", "seg_perception.ros.node", "--ros-args", "-p", f"image:={TOPIC}"]
        command += [part for name, value in settings.items() for part in ("-p", f"{name}:={value}")]
        command += ["-p", "diagnostics_period_s:=0.5"]
    else:
        command = ["-m", f"benchmarks.{kind}_node", "--image", TOPIC]
        if kind == "plain":
            command += [part for name, value in settings.items() for part in (f"--{name}", value)]
    environment = {**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])}
    process = subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


@contextmanager
def memory_of(pid: int, wanted: bool) -> Iterator[list[float]]:
    """Resident megabytes of a process, once a second while the block runs."""
    samples: list[float] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(1.0):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            samples.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)

    thread = threading.Thread(target=sample)
    if wanted:
        thread.start()
    try:
        yield samples
    finally:
        done.set()
        if wanted:
            thread.join()


def measure(
    kind: str, args: argparse.Namespace, environment: dict[str, str], node: Any, rgb: np.ndarray, rate_hz: float
) -> Figures:
    """One kind, one size, once."""
    camera = Camera(node, rgb)
    try:
        with running(kind, args, environment) as pid:
            camera.connect()
            for _ in range(5):
                camera.ask()
            answers = [camera.ask() for _ in range(args.frames)]
            latencies = [answer for answer in answers if answer is not None]
            if kind != "echo":
                time.sleep(1.2)  # a diagnostics message that has seen these frames
            engine_ms, painting_ms = camera.stage_ms("infer"), camera.stage_ms(PAINTING)
            stream, memory = None, []
            if kind != "echo":
                with memory_of(pid, args.memory and kind == "node") as memory:
                    stream = camera.stream(rate_hz, args.seconds)
    finally:
        camera.close()
    return Figures(
        float(np.median(latencies)),
        float(np.percentile(latencies, 95)),
        engine_ms,
        painting_ms,
        stream,
        np.array(memory),
    )


def spread(values: list[float], digits: int = 1) -> str:
    """Median (smallest-largest)."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def slope_mb_per_minute(memory_mb: np.ndarray) -> str:
    """Slope of the last three quarters with its 95 % interval, by least squares."""
    steady = memory_mb[len(memory_mb) // 4 :]
    if len(steady) < 10:
        return "too short"
    minutes = np.arange(len(steady)) / 60
    (slope, _), covariance = np.polyfit(minutes, steady, 1, cov=True)
    return f"{slope:.2f} +- {1.96 * np.sqrt(covariance[0, 0]):.2f}, {steady.min():.0f} to {steady.max():.0f} MB"


def table(size: str, results: dict[str, list[Figures]], bare: list[tuple[float, float]]) -> list[str]:
    """The rows of one size."""
    rows = []
    for kind, figures in results.items():
        columns = [spread([f.latency_ms for f in figures]), spread([f.latency_p95_ms for f in figures])]
        if kind == "echo":
            rows.append(f"| {size} | echo | {' | '.join(columns)} | | | | | | |")
            continue
        echoes = [echo.latency_ms for echo in results["echo"]]
        painted = [0.0 if np.isnan(f.painting_ms) else f.painting_ms for f in figures]
        own = [f.latency_ms - e - f.engine_ms - p for f, e, p in zip(figures, echoes, painted, strict=True)]
        columns += [spread([f.engine_ms for f in figures]), spread(painted) if kind == "node" else "", spread(own)]
        streams = [f.stream for f in figures if f.stream is not None]
        share = [stream.rate_hz * sum(times) / 1e3 for stream, times in zip(streams, bare, strict=True)]
        columns += [
            spread(share, 2),
            spread([float(np.median(s.ages_ms)) for s in streams]),
            spread([float(np.percentile(s.ages_ms, 99)) for s in streams]),
        ]
        rows.append(f"| {size} | {kind} | {' | '.join(columns)} |")
    engine, painting = spread([b[0] for b in bare]), spread([b[1] for b in bare])
    rows.append(f"| {size} | bare | | | {engine} | {painting} | | 1 | | |")
    rows += [
        f"\n{size}: memory of the node under load, MB a minute: {slope_mb_per_minute(f.memory_mb)}\n"
        for f in results["node"]
        if len(f.memory_mb)
    ]
    return rows


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=str(ROOT / "models/rooms_spt_lite0.onnx"))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="echo is always measured")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--frames", type=int, default=40, help="images one at a time, a repeat")
    parser.add_argument("--overload", type=float, default=3.0, help="images under load, in times of the bare rate")
    parser.add_argument("--seconds", type=float, default=5.0, help="under load, a repeat")
    parser.add_argument("--memory", action="store_true", help="note the node's memory under load")
    args = parser.parse_args()
    kinds = [kind for kind in KINDS if kind in args.kinds or kind == "echo"]
    keep_freed_memory()  # in all processes alike: the page faults of the camera would count as the node's
    environment = ros_process_environment(free_domain_id())
    os.environ.update(environment)

    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    rclpy.init()
    node = rclpy.create_node("prober")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    print(f"`python -m benchmarks.node_latency {' '.join(sys.argv[1:])}`\n")
    print("; ".join(f"{name}: {value}" for name, value in describe_environment().items()) + "\n")
    print(
        "| size | node | latency ms | p95 ms | engine ms | painting ms | own share ms | masks/s under load / bare "
        "| age ms under load | age p99 ms |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    try:
        for size in args.sizes:
            rgb = recorded_image(str(ROOT / "bags/rooms_demo.mcap"), SIZES[size])
            results: dict[str, list[Figures]] = {kind: [] for kind in kinds}
            bare: list[tuple[float, float]] = []
            for _ in range(args.repeats):
                bare.append(bare_ms(args, rgb))
                rate_hz = args.overload * 1e3 / sum(bare[-1])
                for kind, figures in results.items():
                    figures.append(measure(kind, args, environment, node, rgb, rate_hz))
            print("\n".join(table(size, results, bare)), flush=True)
    finally:
        executor.shutdown()
        spinning.join()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
