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
as a share of that rate, and the age of masks as they come in. With --memory the node's private memory is noted once a
second under load, and its slope given. --overload-minutes 10 keeps the node under load for so long, with memory, and says
whether the age's 99th percentile stays within two engine times and 10 ms (`--sizes 640x480 --kinds node --repeats 1`). The
tables give the median over the repeats and the smallest and largest.
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
from test.soak.memory import MemorySampler

ROOT = Path(__file__).parents[1]
SIZES = {"640x480": (480, 640), "1920x1080": (1080, 1920)}
KINDS = ("node", "plain", "echo")
AGE_BESIDE_MS = 10.0  # that masks may be older under overload than two engine times, one image in work and one waiting
PAINTING = "paint"  # the stage's name in timings and diagnostics


@dataclass
class Figures:
    """Of one kind at one size in one repeat; milliseconds. `stream` is None for the echo."""

    latency_ms: float
    latency_p95_ms: float
    engine_ms: float
    painting_ms: float
    stream: Stream | None
    memory: MemorySampler | None


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
            stream, memory = None, None
            if kind != "echo":
                if kind == "node" and (args.memory or args.overload_minutes):
                    memory = MemorySampler(pid, 1.0)
                seconds = 60 * args.overload_minutes if kind == "node" and args.overload_minutes else args.seconds
                stream = camera.stream(rate_hz, seconds)
                if memory is not None:
                    memory.close()
    finally:
        camera.close()
    return Figures(
        float(np.median(latencies)),
        float(np.percentile(latencies, 95)),
        engine_ms,
        painting_ms,
        stream,
        memory,
    )


def spread(values: list[float], digits: int = 1) -> str:
    """Median (smallest-largest)."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def endurance(figures: Figures) -> list[str]:
    """Of a node under load for long: its memory's slope and the age of its masks, against what they may be."""
    if figures.memory is None or figures.stream is None:
        return []
    megabytes = [sample.memory_mb for sample in figures.memory.figures]
    try:
        slope = figures.memory.slope()
    except ValueError as error:
        return [f"memory: {error}"]
    p99_ms = float(np.percentile(figures.stream.ages_ms, 99))
    limit_ms = 2 * figures.engine_ms + AGE_BESIDE_MS
    verdict = "within" if p99_ms <= limit_ms else "ABOVE"
    grows = "GROWS" if slope.grows else "does not grow"
    return [
        f"memory under load for {slope.minutes:.1f} minutes {grows}: {slope}, {min(megabytes):.0f} to {max(megabytes):.0f} MB",
        f"age p99 {p99_ms:.1f} ms, {verdict} two engine times and {AGE_BESIDE_MS:g} ms ({limit_ms:.1f} ms); "
        f"{len(figures.stream.ages_ms)} masks",
    ]


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
    lines = [line for figures in results.get("node", []) for line in endurance(figures)]
    return [*rows, "", *(f"{size}: {line}  " for line in lines), ""] if lines else rows


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
    parser.add_argument(
        "--overload-minutes", type=float, default=0.0, help="the node under load for so long; 0: --seconds"
    )
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
