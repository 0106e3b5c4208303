"""The node's parameters from its start to its end: what is wrong with them, what they are now, and who is told of a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from seg_perception.model.model_file import read_model_info
from seg_perception.ros import parameter_values
from seg_perception.ros.parameter_values import SHIPPED_MODEL, NodeParameters
from seg_perception.ros.parameters import PARAMETERS
from seg_perception.share import share_path


class LiveParameters:
    """Declares a node's parameters, checks what is set, and keeps a copy of the values to work with.

    Args:
        node: whose parameters they are.
        is_configured: whether it holds a model now: then not all may change.
        changed: told of the values before and now, in the executor, in the cycle after a change.

    Attributes:
        values: at present; a change follows in the cycle after it, or with `refresh`.
    """

    def __init__(
        self, node: Node, is_configured: Callable[[], bool], changed: Callable[[NodeParameters, NodeParameters], None]
    ) -> None:
        self._node = node
        self._is_configured = is_configured
        self._changed = changed
        self._problems = parameter_values.declare(node)
        names = parameter_values.camera_names(node)
        self._problems |= parameter_values.declare_cameras(node, names)
        self.values = parameter_values.read(node, names)
        self._refreshing = False
        self._putting_back = False
        node.add_on_set_parameters_callback(self._check)

    @property
    def problem(self) -> str:
        """What is wrong with the values that the process was started with, in one line; empty once all is put right."""
        return "; ".join(self._problems.values())

    def refresh(self) -> None:
        """Take over all that was set until now, at once."""
        self._refreshing = False
        before = self.values
        names = parameter_values.camera_names(self._node)
        # What stays keeps what was set for it.
        for gone in parameter_values.undeclare_cameras(self._node, [c for c in before.cameras if c not in names]):
            self._problems.pop(gone, None)
        self._problems |= parameter_values.declare_cameras(self._node, [c for c in names if c not in before.cameras])
        self.values = parameter_values.read(self._node, names)
        following = parameter_values.followers(before, self.values)
        if following:
            self._node.set_parameters([Parameter(name, value=value) for name, value in following])
            self.values = parameter_values.read(self._node, names)
        self._changed(before, self.values)

    def put_back(self, loaded: NodeParameters) -> None:
        """Set those that `~/load_model` takes to what the model in place was made with."""
        self.refresh()
        names = [p.name for p in PARAMETERS if p.loadable]
        back: list[tuple[str, Any]] = [
            (n, getattr(loaded, n)) for n in names if getattr(self.values, n) != getattr(loaded, n)
        ]
        self._putting_back = True
        self._node.set_parameters([Parameter(name, value=value) for name, value in back])
        self._putting_back = False

    def _check(self, changes: list[Parameter]) -> SetParametersResult:
        problem = parameter_values.problem_with(changes, self._is_configured()) or self._problem_with_model(changes)
        if problem:
            return SetParametersResult(successful=False, reason=problem)
        for change in changes:
            self._problems.pop(change.name, None)
        # The change is stored after this callback; the copy follows in the next cycle, once for all changes until then.
        if self._node.executor is not None and not self._refreshing:
            self._refreshing = True
            self._node.executor.create_task(self.refresh)
        return SetParametersResult(successful=True)

    def _problem_with_model(self, changes: list[Parameter]) -> str:
        """Why `~/load_model` could not load what is set now, as far as the file's head says; empty if nothing is known."""
        if not self._is_configured() or self._putting_back:
            return ""
        for change in changes:
            if change.name == "model":
                try:
                    read_model_info(change.value or share_path(SHIPPED_MODEL))
                except (ValueError, OSError) as error:
                    return " ".join(str(error).split())
        return ""
