"""A real Ray on this machine for tests, and its workers' processes."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
RAY = Path(sys.executable).with_name("ray")
# Only this run may give its Ray orders. Ray looks once, when it is imported.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
TASK = "ray::score_on_node"
GENEROUS_S = 180


@dataclass
class Cluster:
    """A head of two CPU cores."""

    address: str
    environment: dict[str, str]

    def options(self, *more: str) -> list[str]:
        return ["--ray-address", self.address, "--threads", "1", *more]


def answering(port: int) -> str | None:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return None
    return f"127.0.0.1:{port}"


def until(found: Callable[[], Any], what: str) -> Any:
    """What `found` gives as soon as it gives anything."""
    deadline = time.monotonic() + GENEROUS_S
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what} did not come within {GENEROUS_S} s")


def end(process: subprocess.Popen[Any]) -> None:
    """`ray start --block` ends its node with it."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def workers_at(path: Path) -> list[int]:
    """Processes of Ray's that score the recording: those that have a file below `path` open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cmdline").read_bytes().startswith(TASK.encode()):
                opened = [os.readlink(file) for file in process.joinpath("fd").iterdir()]
                if any(name.startswith(f"{path}/") for name in opened):
                    found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


def kill_at_work(bag: Path, times: int, killed: list[int]) -> threading.Thread:
    """Kill -9 the workers of a recording as they are at it, `times` of them."""

    def hunt() -> None:
        deadline = time.monotonic() + GENEROUS_S
        while len(killed) < times and time.monotonic() < deadline:
            for pid in set(workers_at(bag)) - set(killed):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.002)

    thread = threading.Thread(target=hunt)
    thread.start()
    return thread


def joined(cluster: Cluster, count: int) -> bool:
    """Whether so many nodes are there, asked in a process of its own."""
    program = (
        f"import ray; ray.init({cluster.address!r}, logging_level='error'); print(sum(n['Alive'] for n in ray.nodes()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=cluster.environment, capture_output=True, text=True, check=False
    )
    return done.stdout.strip().endswith(str(count))
