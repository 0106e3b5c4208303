"""All that a fault can take hold of: the node's process and services, the cameras, the listeners, the machine."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seg_perception.cdr import read_image
from test.seg_perception.node_process import NodeProcess
from test.soak.camera import SimulatedCamera
from test.soak.checks import MaskChecks

ANSWER_S = 60.0  # of a service: an engine is built in one, on a machine that others load
NAME = "soaked"
EXTRA_OUTPUTS = ("superpixels", "confidence", "overlay", "superpixel_labels")


class NodeClient:
    """The node's services, each through one client that lives as long as the run: a node keeps something of every client.

    Args:
        node: of rclpy, spinning.
    """

    def __init__(self, node: Any) -> None:
        from lifecycle_msgs.srv import ChangeState
        from rcl_interfaces.srv import SetParameters
        from std_srvs.srv import SetBool, Trigger

        self._node = node
        self._kinds = {
            "change_state": ChangeState,
            "set_parameters": SetParameters,
            "load_model": Trigger,
            "save_capture": Trigger,
            "enable": SetBool,
        }
        self._clients: dict[str, Any] = {}

    def change_state(self, transition: int) -> bool:
        """A transition by its id (lifecycle_msgs/Transition); whether it was made."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self._call("change_state", "change_state", request).success)

    def set_parameter(self, name: str, value: Any) -> str:
        """Set one; why it was refused, empty where it was not."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        result = self._call("set_parameters", "set_parameters", request).results[0]
        return "" if result.successful else result.reason or "no reason given"

    def trigger(self, service: str) -> tuple[bool, str]:
        """A std_srvs/Trigger service: success and message."""
        from std_srvs.srv import Trigger

        answer = self._call(service, service, Trigger.Request())
        return bool(answer.success), str(answer.message)

    def enable(self, camera: str, wanted: bool) -> tuple[bool, str]:
        """Turn a camera on or off."""
        from std_srvs.srv import SetBool

        answer = self._call(f"{camera}/enable", "enable", SetBool.Request(data=wanted))
        return bool(answer.success), str(answer.message)

    def _call(self, service: str, kind: str, request: Any) -> Any:
        if service not in self._clients:
            self._clients[service] = self._node.create_client(self._kinds[kind], f"/{NAME}/{service}")
        client = self._clients[service]
        if not client.wait_for_service(timeout_sec=ANSWER_S):
            raise TimeoutError(f"the node's service {service} is not there for {ANSWER_S:.0f} s")
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(ANSWER_S):
            raise TimeoutError(f"the node's service {service} does not answer for {ANSWER_S:.0f} s")
        return future.result()


class Listener:
    """Subscribes to a camera's labels for the checks, and to other outputs while somebody wants them.

    Args:
        node: of rclpy, spinning.
        camera: its name.
        checks: are told of every mask.
    """

    def __init__(self, node: Any, camera: str, checks: MaskChecks) -> None:
        self._node, self._camera, self._checks = node, camera, checks
        self._labels: Any = None
        self.listen()

    def listen(self) -> None:
        """Begin."""
        self._labels = self._subscribe("labels", self._on_labels)

    def leave(self) -> None:
        """End: as far as this camera goes, nobody is there."""
        self._node.destroy_subscription(self._labels)

    @contextmanager
    def also_to(self, outputs: tuple[str, ...]) -> Iterator[None]:
        """Subscriptions of others, whose messages nobody looks at."""
        subscriptions = [self._subscribe(output, lambda _: None) for output in outputs]
        try:
            yield
        finally:
            for subscription in subscriptions:
                self._node.destroy_subscription(subscription)

    def _subscribe(self, output: str, callback: Callable[[bytes], None]) -> Any:
        from sensor_msgs.msg import Image

        return self._node.create_subscription(Image, f"/{NAME}/{self._camera}/{output}", callback, 10, raw=True)

    def _on_labels(self, serialized: bytes) -> None:
        now_s = time.monotonic()
        mask = read_image(serialized)
        labels = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)
        self._checks.arrived(mask.header, labels, now_s)


@dataclass
class World:
    """Everything of a run.

    Attributes:
        process, client: the node.
        cameras, checks, listeners: by the camera's name.
        models: values of the parameter `model` that serve the same labels; the node starts with the first.
        engines: values of `engine` and `precision` that a swap may ask for; the node starts with the first.
        folder: for files.
        burners: processes that a fault may start to take the processor.
        capture_mb: that a second of messages fills, so that every capture takes the same memory.
        notes: what faults have to say, a line each.
    """

    process: NodeProcess
    client: NodeClient
    cameras: dict[str, SimulatedCamera]
    checks: dict[str, MaskChecks]
    listeners: dict[str, Listener]
    models: list[Path]
    engines: list[tuple[str, str]]
    folder: Path
    burners: int
    capture_mb: int
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of the cameras."""
        return list(self.cameras)

    def expect(self, is_so: bool, what: str) -> None:
        """Note something that the node should have done and has not."""
        if not is_so:
            self.notes.append(what)


@contextmanager
def burning(count: int) -> Iterator[None]:
    """Processes that do nothing but take time from everybody else."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
