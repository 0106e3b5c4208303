"""The answer to a transition that the present state does not have."""

from __future__ import annotations

from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode


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
