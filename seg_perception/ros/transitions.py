"""Transitions that go wrong: those that the present state does not have, and what they raise."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Protocol, TypeVar

from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn


class Telling(Protocol):
    """A node that says what goes wrong."""

    def tell(self, doing: str, error: BaseException) -> None:
        """That something could not be done, on the log and in the diagnostics."""


Telling_ = TypeVar("Telling_", bound=Telling)
Transition = Callable[[Telling_, LifecycleState], TransitionCallbackReturn]


def told(doing: str) -> Callable[[Transition[Telling_]], Transition[Telling_]]:
    """For a transition's method: what it raises is told, where rclpy goes to the error state without a word."""

    def decorate(transition: Transition[Telling_]) -> Transition[Telling_]:
        @wraps(transition)
        def guarded(node: Telling_, state: LifecycleState) -> TransitionCallbackReturn:
            try:
                return transition(node, state)
            except Exception as error:
                node.tell(doing, error)
                return TransitionCallbackReturn.ERROR

        return guarded

    return decorate


def refuse_what_is_not_allowed(node: LifecycleNode) -> None:
    """Answer such a transition as one that failed.

    rclpy raises it out of the executor instead, and never answers (ros2/rclpy issue 1209).
    """
    service = node._service_change_state
    change_state = service.callback

    def answer(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        try:
            return change_state(request, response)
        except Exception as error:
            asked = request.transition.label or f"with id {request.transition.id}"
            allowed = ", ".join(f"{t[1]} ({t[0]})" for t in node._state_machine.available_transitions)
            node.get_logger().warning(
                f"transition {asked} refused: the node is {node._state_machine.current_state[1]}, expected one of: "
                f"{allowed}; {' '.join(str(error).split())}"
            )
            response.success = False
            return response

    service.callback = answer
