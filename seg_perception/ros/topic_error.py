"""A topic that cannot be made, in one line: nearly always a quality of service that was overridden with what there is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rclpy.node import Node

_LONGEST = 200  # letters of what ROS says


class TopicError(ValueError):
    """A publisher or subscription cannot be made. The message is one line."""


@contextmanager
def making(node: Node, topic: str, side: str) -> Iterator[None]:
    """While one is made.

    Args:
        node: that it is on.
        topic: as it is given to it.
        side: "publisher" or "subscription".

    Raises:
        TopicError: for whatever is raised inside: rclpy has a different class for each thing that may be wrong.
    """
    try:
        yield
    except Exception as error:
        name = node.resolve_topic_name(topic)
        lines = str(error).strip().splitlines()
        said = (lines[0] if lines else type(error).__name__)[:_LONGEST]
        raise TopicError(
            f"the {side} of topic {name} cannot be made: {said}; put right qos_overrides.{name}.{side} where the node is "
            "started: reliability reliable or best_effort, durability volatile or transient_local, history keep_last, depth 1 "
            "or more"
        ) from error
