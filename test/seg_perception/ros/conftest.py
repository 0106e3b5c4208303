"""Nodes that a test starts and that must outlive it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from test.seg_perception.node_process import NodeProcess
from test.seg_perception.ros.troubled_process import TroubledProcess
from test.seg_perception.tiny_model import write_tiny_model


@pytest.fixture
def started(ros_environment: dict[str, str]) -> Iterator[Callable[..., NodeProcess]]:
    """Starts nodes: name, environment, whether to wait until it is active, parameters. Ends them in order.

    The image topic is /<name>/image unless a parameter says otherwise.
    """
    processes: list[NodeProcess] = []

    def start(
        name: str, environment: dict[str, str] | None = None, wait: bool = True, **parameters: Any
    ) -> NodeProcess:
        values = {"image": f"/{name}/image", "engine": "onnxruntime", **parameters}
        process = NodeProcess({**ros_environment, **(environment or {})}, name, **values)
        processes.append(process)
        if wait:
            process.wait_for("active: listening to")
        return process

    yield start
    for process in processes:
        assert process.alive, process.lines[-20:]
        assert process.stop() == 0, process.lines[-20:]
        assert not [line for line in process.lines if "Traceback" in line or "unexpected" in line]


@pytest.fixture
def troubled(ros_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., TroubledProcess]]:
    """Starts nodes and kills what a test left of them."""
    processes: list[TroubledProcess] = []

    def start(
        name: str, environment: dict[str, str] | None = None, trouble: str = "", **parameters: Any
    ) -> TroubledProcess:
        model = write_tiny_model(tmp_path / "m.onnx")
        values = {"model": model, "image": f"/{name}/image", **parameters}
        environment = {**ros_environment, **(environment or {})}
        process = TroubledProcess(environment, tmp_path / "trouble", name, trouble, **values)
        processes.append(process)
        if not trouble:
            process.wait_for("active: listening to")
        return process

    yield start
    for process in processes:
        if process.alive:
            process.process.kill()
            process.process.wait()
