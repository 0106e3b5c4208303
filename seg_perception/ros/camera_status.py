"""Puts the diagnostic status of a camera together, of everything that knows something about it."""

from __future__ import annotations

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode

from seg_perception.machine_watch import MachineWatch
from seg_perception.ros.camera import Camera
from seg_perception.ros.diagnostics import NodeState, diagnostic_status
from seg_perception.ros.topic_match import TopicMatch
from seg_perception.ros.worker_guard import WorkerGuard
from seg_perception.segmenter import Segmenter


@dataclass(frozen=True)
class Present:
    """The node now.

    Attributes:
        lifecycle, problem, busy: as in `NodeState`.
        segmenter: that serves; None while unconfigured.
    """

    lifecycle: str
    problem: str
    busy: str
    segmenter: Segmenter | None


class CameraStatuses:
    """Makes them.

    Args:
        node: whose name they have.
        guard: of the worker.
        machine: that the node runs on.
        match: of the node's topics.
    """

    def __init__(self, node: LifecycleNode, guard: WorkerGuard, machine: MachineWatch, match: TopicMatch) -> None:
        self._node = node
        self._guard = guard
        self._machine = machine
        self._match = match

    def of(self, camera: Camera, present: Present) -> DiagnosticStatus:
        """A camera's status; what is counted as recent begins anew with it."""
        segmenter, values, machine = present.segmenter, camera.values, self._machine.state
        summary = None if camera.statistics is None else camera.statistics.summary()
        is_silent = summary is not None and summary.silence_s > values.stale_after_s
        engine_problem = "" if segmenter is None else segmenter.engine_problem
        state = NodeState(
            lifecycle=present.lifecycle,
            problem=present.problem,
            image_topic=camera.image_topic,
            model="" if segmenter is None else segmenter.info.name,
            engine="" if segmenter is None else segmenter.engine_description,
            stale_after_s=values.stale_after_s,
            late_after_ms=values.late_after_ms,
            busy=present.busy,
            device_memory=None if segmenter is None or self._guard.engine_is_in_use else segmenter.device_memory,
            enabled=values.enabled,
            trouble=self._guard.trouble(values.stale_after_s) or camera.trouble,
            why_silent=self._match.why_silent(camera.image_topic) if is_silent else "",
            warnings=(engine_problem, self._guard.problem, machine.problem, *camera.warnings()),
            health={**self._guard.values(), **camera.values_of_health(), **machine.values()},
        )
        name = self._node.get_fully_qualified_name()
        return diagnostic_status(f"{name}: {camera.name}" if camera.name else name, state, summary)
