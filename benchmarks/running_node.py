"""The segmentation node as a process of a benchmark: started with parameters, asked for services, its memory read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ANSWER_S = 120.0


class RunningNode:
    """`python -m seg_perception.ros.node`.

    Args:
        environment: of the process.
        name: of the node.
        parameters: of the node, as its command line takes them.

    Attributes:
        started_s: when, perf_counter.
    """

    def __init__(self, environment: dict[str, str], name: str, parameters: dict[str, object]) -> None:
        self.name = name
        command = [sys.executable, "-m", "seg_perception.ros.node", "--ros-args", "-r", f"__node:={name}"]
        command += [part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")]
        path = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
        self.started_s = time.perf_counter()
        self._process = subprocess.Popen(command, env={**environment, "PYTHONPATH": path}, stderr=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def memory_mb(self) -> float:
        """Its share of the machine's memory (PSS): pages that several processes use are divided among them."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise RuntimeError(f"the kernel tells no Pss of process {self.pid}")

    def stop(self) -> None:
        """End it in order."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=30)


@contextmanager
def running_nodes(environment: dict[str, str], nodes: dict[str, dict[str, object]]) -> Iterator[list[RunningNode]]:
    """Nodes by their names, with their parameters; started at once."""
    running: list[RunningNode] = []
    try:
        for name, parameters in nodes.items():
            running.append(RunningNode(environment, name, parameters))
        yield running
    finally:
        for node in running:
            node.stop()


@contextmanager
def prober(environment: dict[str, str]) -> Iterator[Any]:
    """A node of this process, spinning in a thread; this process's environment is changed with it."""
    os.environ.update(environment)

    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    rclpy.init()
    node = rclpy.create_node("prober")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin, daemon=True)
    spinning.start()
    try:
        yield node
    finally:
        executor.shutdown()
        spinning.join()
        rclpy.try_shutdown()


def call(node: Any, kind: Any, service: str, request: Any) -> Any:
    """The answer of a service.

    Raises:
        RuntimeError: it is not there, or does not answer.
    """
    client = node.create_client(kind, service)
    if not client.wait_for_service(timeout_sec=ANSWER_S):
        raise RuntimeError(f"there is no service {service}")
    done = threading.Event()
    future = client.call_async(request)
    future.add_done_callback(lambda _: done.set())
    if not done.wait(ANSWER_S):
        raise RuntimeError(f"service {service} does not answer")
    answer = future.result()
    node.destroy_client(client)
    return answer


def spread(values: list[float], digits: int = 1) -> str:
    """Median (smallest-largest)."""
    from statistics import median

    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
