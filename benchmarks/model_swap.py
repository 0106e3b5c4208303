"""Another model while masks go on: the longest time without a mask, what the change takes, and memory meanwhile.

    .venv-test/bin/python -m benchmarks.model_swap

Images come at --rate. For each pair of engines, --repeats times: `engine` is set and `~/load_model` called while masks come
in; the longest time between two masks from the call to two seconds after its answer, beside the longest in as long a time
before it, in which nothing happened. Memory (PSS) is read before, every 50 ms meanwhile, and after.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.camera import Camera, Stream, recorded_image
from benchmarks.running_node import ROOT, RunningNode, call, prober, running_nodes, spread
from seg_perception.image_memory import keep_freed_memory
from seg_perception.process.environment import describe_environment
from seg_perception.process.ros_environment import free_domain_id, ros_process_environment

SIZE = (480, 640)
AFTER_S = 2.0
ENGINES = ("openvino", "onnxruntime")


@dataclass(frozen=True)
class Swap:
    """One change of the model.

    Attributes:
        gap_ms, usual_gap_ms: longest time between two masks, around the change and before it.
        load_s: from the call to its answer.
        before_mb, peak_mb, after_mb: memory.
    """

    gap_ms: float
    usual_gap_ms: float
    load_s: float
    before_mb: float
    peak_mb: float
    after_mb: float


def longest_gap_ms(arrived_s: np.ndarray, begin_s: float, end_s: float) -> float:
    """Between two masks, or a mask and an end of the stretch; masks come in any order."""
    within = np.sort(arrived_s[(arrived_s > begin_s) & (arrived_s < end_s)])
    return float(1e3 * np.diff([begin_s, *within, end_s]).max())


@contextmanager
def memory_peak(node: RunningNode) -> Iterator[list[float]]:
    """Megabytes, every 50 ms while the block runs."""
    samples: list[float] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.05):
            samples.append(node.memory_mb())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def swap(prober_node: Any, running: RunningNode, camera: Camera, engine: str, rate_hz: float) -> Swap:
    """Change to an engine while images come."""
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter
    from std_srvs.srv import Trigger

    streams: list[Stream] = []
    change_s = 0.0
    before_mb = running.memory_mb()
    # Long enough for any change; it is cut off when the change is over.
    stop = threading.Event()
    thread = threading.Thread(target=lambda: streams.append(camera.stream(rate_hz, 120.0, stop)))
    thread.start()
    try:
        time.sleep(1.0 + AFTER_S)
        request = SetParameters.Request(parameters=[Parameter("engine", value=engine).to_parameter_msg()])
        result = call(prober_node, SetParameters, f"/{running.name}/set_parameters", request).results[0]
        if not result.successful:
            raise RuntimeError(f"engine {engine}: {result.reason}")
        with memory_peak(running) as samples:
            change_s = time.perf_counter()
            answer = call(prober_node, Trigger, f"/{running.name}/load_model", Trigger.Request())
            load_s = time.perf_counter() - change_s
            if not answer.success:
                raise RuntimeError(f"engine {engine}: {answer.message}")
            time.sleep(AFTER_S)
        end_s = time.perf_counter()
    finally:
        stop.set()
        thread.join()
    arrived_s = streams[0].arrived_s
    lasted_s = min(end_s - change_s, 1.0 + AFTER_S - 0.6)
    return Swap(
        longest_gap_ms(arrived_s, change_s, end_s),
        longest_gap_ms(arrived_s, change_s - lasted_s, change_s),
        load_s,
        before_mb,
        max(samples),
        running.memory_mb(),
    )


def row(before: str, after: str, swaps: list[Swap]) -> str:
    """Of the table."""
    columns = [
        spread([s.usual_gap_ms for s in swaps], 0),
        spread([s.gap_ms for s in swaps], 0),
        spread([s.load_s for s in swaps], 2),
        spread([s.before_mb for s in swaps], 0),
        spread([s.peak_mb for s in swaps], 0),
        spread([s.after_mb for s in swaps], 0),
    ]
    return f"| {before} to {after} | {' | '.join(columns)} |"


def main(arguments: list[str] | None = None) -> int:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.model_swap", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", default=str(ROOT / "models/rooms_spt_lite0.onnx"))
    parser.add_argument("--rate", type=float, default=15.0, help="images a second (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(arguments)
    engines = [engine for engine in ENGINES if find_spec(engine) is not None]
    if not engines:
        print(f"error: none of {', '.join(ENGINES)} is installed", file=sys.stderr)
        return 2
    keep_freed_memory()
    environment = ros_process_environment(free_domain_id())
    print(f"`python -m benchmarks.model_swap {' '.join(sys.argv[1:])}`\n")
    print("; ".join(f"{name}: {value}" for name, value in describe_environment().items()) + "\n")
    print(
        "| change | longest gap before ms | longest gap of the change ms | load s | memory before MB | peak | after |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    rgb = recorded_image(str(ROOT / "bags/rooms_demo.mcap"), SIZE)
    parameters: dict[str, object] = {"model": args.model, "engine": engines[0], "precision": "f32", "image": "/image"}
    pairs = [(engine, other) for engine in engines for other in engines if engine != other] or [
        (engines[0], engines[0])
    ]
    swaps: dict[tuple[str, str], list[Swap]] = {pair: [] for pair in pairs}
    with prober(environment) as node, running_nodes(environment, {"swapped": parameters}) as (running,):
        camera = Camera(node, rgb, "/image", "/swapped", masks=("labels",))
        camera.connect()
        for _ in range(args.repeats):
            for pair, found in swaps.items():
                found.append(swap(node, running, camera, pair[1], args.rate))
        camera.close()
    for (before, after), found in swaps.items():
        print(row(before, after, found), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
