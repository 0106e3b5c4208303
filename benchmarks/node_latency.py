"""Image-to-mask latency and frame rate of the node, beside the plainest node with the same engine, in one run.

    python -m benchmarks.node_latency --model models/rooms_spt_lite0.onnx

Each node runs in a process of its own and gets the same rgb8 images over DDS from this process, which notes when each
mask (labels and superpixels) of which image is back:

- latency: one image at a time, the next one after the answer, so nothing queues; from publish to both masks here.
- under load: images at --rate, faster than the machine can segment; masks a second, and the age of the masks as they
  come in, which is what a robot acts on.

The two nodes take turns --repeats times; the table gives the median over the repeats and the smallest and largest.
"Not the engine" is the median latency less the median time of the engine's own call in that same node and repeat, as it
tells in its diagnostics; DDS both ways is in it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from seg_perception.process.environment import describe_environment
from seg_perception.process.ros_environment import free_domain_id, ros_process_environment

ROOT = Path(__file__).parents[1]
TOPIC = "/camera/image_raw"
SIZES = {"640x480": (480, 640), "1920x1080": (1080, 1920)}


@dataclass
class Figures:
    """Of one node at one size in one repeat; milliseconds and hertz."""

    latency_ms: float
    latency_p95_ms: float
    engine_ms: float
    rate_hz: float
    age_ms: float


class Prober:
    """Publishes images and waits for the masks of each."""

    def __init__(self, node: Any) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import Image

        self.node = node
        self.publisher = node.create_publisher(Image, TOPIC, qos_profile_sensor_data)
        self.sent: dict[int, float] = {}
        self.arrived: dict[int, dict[str, float]] = {}
        self.news = threading.Condition()
        self.stages: dict[str, str] = {}
        self.subscriptions = [
            node.create_subscription(Image, f"/segmentation/{name}", lambda m, n=name: self._answer(n, m), 10)
            for name in ("labels", "superpixels")
        ]
        self.subscriptions.append(node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 10))
        self.count = 0

    def close(self) -> None:
        """Leave the topics, so that the next repeat's prober is alone on them."""
        self.node.destroy_publisher(self.publisher)
        for subscription in self.subscriptions:
            self.node.destroy_subscription(subscription)

    def _answer(self, name: str, message: Any) -> None:
        now = time.perf_counter()
        with self.news:
            self.arrived.setdefault(message.header.stamp.nanosec, {})[name] = now
            self.news.notify_all()

    def _diagnose(self, message: Any) -> None:
        for status in message.status:
            self.stages = {v.key: v.value for v in status.values}

    def done_s(self, key: int) -> float | None:
        """When the last of both masks of an image came."""
        answers = self.arrived.get(key, {})
        return max(answers.values()) if len(answers) == 2 else None

    def publish(self, message: Any) -> int:
        """Send a copy with a stamp of its own; the key that its answers carry."""
        self.count += 1
        message.header.stamp.nanosec = self.count
        self.sent[self.count] = time.perf_counter()
        self.publisher.publish(message)
        return self.count

    def ask(self, message: Any, timeout_s: float) -> float | None:
        """Milliseconds until both masks of an image are here; None if they do not come."""
        key = self.publish(message)
        with self.news:
            if not self.news.wait_for(lambda: self.done_s(key) is not None, timeout_s):
                return None
        done = self.done_s(key)
        assert done is not None
        return 1e3 * (done - self.sent[key])


def measure(prober: Prober, message: Any, frames: int, rate_hz: float, seconds: float) -> Figures:
    """One node, one size."""
    deadline = time.monotonic() + 60
    while prober.ask(message, 1.0) is None:
        if time.monotonic() > deadline:
            raise RuntimeError("the node does not answer")
    for _ in range(3):
        prober.ask(message, 5.0)
    latencies = [prober.ask(message, 5.0) for _ in range(frames)]
    answered = [v for v in latencies if v is not None]
    time.sleep(1.2)  # a diagnostics message that has seen these frames
    engine_ms = float(prober.stages.get("stage_infer_ms", "nan"))
    first, start = prober.count + 1, time.perf_counter()
    while (now := time.perf_counter()) < start + seconds:
        prober.publish(message)
        time.sleep(max(0.0, now + 1 / rate_hz - time.perf_counter()))
    end = time.perf_counter()
    time.sleep(1.0)
    done = {key: prober.done_s(key) for key in range(first, prober.count + 1)}
    # The first half second fills queues; what a robot lives with comes after.
    steady = {k: t for k, t in done.items() if t is not None and start + 0.5 <= t <= end}
    ages = [1e3 * (t - prober.sent[k]) for k, t in steady.items()]
    return Figures(
        float(np.median(answered)),
        float(np.percentile(answered, 95)),
        engine_ms,
        len(steady) / (end - start - 0.5),
        float(np.median(ages)) if ages else float("nan"),
    )


def run(kind: str, args: argparse.Namespace, environment: dict[str, str], node: Any, message: Any) -> Figures:
    """Start a node, measure it, stop it."""
    prober = Prober(node)
    if kind == "node":
        command = ["-m", "seg_perception.ros.node", "--ros-args", "-p", f"model:={args.model}", "-p", f"image:={TOPIC}"]
        command += ["-p", f"engine:={args.engine}", "-p", f"threads:={args.threads}", "-p", "diagnostics_period_s:=0.5"]
    else:
        command = [str(ROOT / "benchmarks/plain_node.py"), "--model", args.model, "--image", TOPIC]
        command += ["--engine", args.engine, "--threads", str(args.threads)]
    environment = {**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])}
    process = subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.DEVNULL)
    try:
        return measure(prober, message, args.frames, args.rate, args.seconds)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        prober.close()


def spread(values: list[float], digits: int = 1) -> str:
    """Median (smallest-largest)."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=str(ROOT / "models/rooms_spt_lite0.onnx"))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--frames", type=int, default=40, help="images one at a time, a repeat")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second under load")
    parser.add_argument("--seconds", type=float, default=5.0, help="under load, a repeat")
    args = parser.parse_args()
    environment = ros_process_environment(free_domain_id())
    os.environ.update(environment)

    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image

    from seg_perception.images import as_ros_bytes

    rclpy.init()
    node = rclpy.create_node("prober")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    print(f"`python -m benchmarks.node_latency {' '.join(sys.argv[1:])}`\n")
    print("; ".join(f"{name}: {value}" for name, value in describe_environment().items()) + "\n")
    print(f"engine {args.engine}, threads {args.threads}, {args.repeats} repeats of {args.frames} images\n")
    print(
        "| size | node | latency ms | p95 ms | engine ms | not the engine ms | masks/s under load | age ms under load |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for size, (height, width) in SIZES.items():
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
        message.data = as_ros_bytes(pixels)
        results: dict[str, list[Figures]] = {"node": [], "plain": []}
        for _ in range(args.repeats):
            for kind, figures in results.items():
                figures.append(run(kind, args, environment, node, message))
        for kind, figures in results.items():
            columns = [
                spread([f.latency_ms for f in figures]),
                spread([f.latency_p95_ms for f in figures]),
                spread([f.engine_ms for f in figures]),
                spread([f.latency_ms - f.engine_ms for f in figures]),
                spread([f.rate_hz for f in figures]),
                spread([f.age_ms for f in figures]),
            ]
            print(f"| {size} | {kind} | {' | '.join(columns)} |", flush=True)
        ratios = [a.latency_ms / b.latency_ms for a, b in zip(results["node"], results["plain"], strict=True)]
        ages = [a.age_ms / b.age_ms for a, b in zip(results["node"], results["plain"], strict=True)]
        print(f"| {size} | node / plain | {spread(ratios, 2)} | | | | | {spread(ages, 2)} |", flush=True)
    executor.shutdown()
    spinning.join()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
