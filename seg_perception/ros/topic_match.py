"""Makes the node's topics, and says which publishers and subscribers of them do not reach each other, and why.

DDS keeps such pairs apart without a word on either side. One warning a pair names both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible, qos_profile_sensor_data

from seg_perception.ros.outputs import OVERRIDABLE
from seg_perception.ros.topic_error import making

_LOOKS = 10  # times that a topic is looked at again: names of nodes arrive a little after their endpoints
_UNKNOWN = "_NODE_NAME_UNKNOWN_"  # rmw's, until then
_MOST_TOLD = 1000  # pairs; what comes and goes for months must not fill the memory


@dataclass
class _Suspicion:
    """A topic where DDS saw a pair that does not match. `looks`: how often it was looked at since."""

    topic: str
    is_input: bool
    looks: int = field(default=0)


class TopicMatch:
    """Watches the node's topics. All of it is called in the executor's thread.

    Args:
        node: whose topics they are.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._suspicions: dict[str, _Suspicion] = {}
        self._told: set[str] = set()

    def subscription(self, kind: Any, topic: str, callback: Callable[[bytes], None]) -> Any:
        """Of a sensor's topic; the callback takes serialized messages: one that a newer one overtakes is never deserialized.

        Raises:
            TopicError: it cannot be made.
        """
        with making(self._node, topic, "subscription"):
            return self._node.create_subscription(
                kind,
                topic,
                callback,
                qos_profile_sensor_data,
                raw=True,
                qos_overriding_options=OVERRIDABLE,
                event_callbacks=self.input_events(topic),
            )

    def publisher(self, kind: Any, topic: str, qos: QoSProfile) -> Any:
        """A lifecycle publisher. Raises TopicError where it cannot be made."""
        with making(self._node, topic, "publisher"):
            return self._node.create_lifecycle_publisher(
                kind, topic, qos, qos_overriding_options=OVERRIDABLE, event_callbacks=self.output_events(topic)
            )

    def input_events(self, topic: str) -> SubscriptionEventCallbacks:
        """For the subscription of a topic; `topic` as it was given to it."""
        return SubscriptionEventCallbacks(
            incompatible_qos=lambda _: self._suspect(topic, True),
            incompatible_type=lambda _: self._suspect(topic, True),
        )

    def output_events(self, topic: str) -> PublisherEventCallbacks:
        """For a publisher."""
        return PublisherEventCallbacks(
            incompatible_qos=lambda _: self._suspect(topic, False),
            incompatible_type=lambda _: self._suspect(topic, False),
        )

    def look(self) -> None:
        """Warn of what came up since the last look. To be called now and then."""
        for name, suspicion in list(self._suspicions.items()):
            mismatches = self._mismatches(suspicion.topic, suspicion.is_input)
            suspicion.looks += 1
            if any(_UNKNOWN in mismatch for mismatch in mismatches) and suspicion.looks < _LOOKS:
                continue
            if mismatches or suspicion.looks >= _LOOKS:
                del self._suspicions[name]
            for mismatch in mismatches:
                self._tell(mismatch)

    def why_silent(self, topic: str) -> str:
        """Why nothing comes on a topic that this node subscribes to; empty where it should come."""
        if not self._node.get_publishers_info_by_topic(topic):
            return "nothing publishes there"
        return "; ".join(self._mismatches(topic, True))

    def _suspect(self, topic: str, is_input: bool) -> None:
        name = self._node.resolve_topic_name(topic)
        self._suspicions[name] = _Suspicion(name, is_input)

    def _tell(self, mismatch: str) -> None:
        if mismatch in self._told:
            return
        if len(self._told) > _MOST_TOLD:
            self._told.clear()
        self._told.add(mismatch)
        self._node.get_logger().warning(mismatch)

    def _mismatches(self, topic: str, is_input: bool) -> list[str]:
        publishers = self._node.get_publishers_info_by_topic(topic)
        subscriptions = self._node.get_subscriptions_info_by_topic(topic)
        ours, theirs = (subscriptions, publishers) if is_input else (publishers, subscriptions)
        own = next((end for end in ours if _full_name(end) == self._node.get_fully_qualified_name()), None)
        if own is None:
            return []
        found = []
        for other in theirs:
            name = _full_name(other)
            if other.topic_type != own.topic_type:
                does, listens = ("publishes", "listens for") if is_input else ("listens for", "publishes")
                found.append(
                    f"topic {topic}: {name} {does} {other.topic_type}, this node {listens} {own.topic_type}: "
                    f"nothing arrives{'; set image_type' if is_input else ''}"
                )
                continue
            pair = (other, own) if is_input else (own, other)
            compatibility, reason = qos_check_compatible(pair[0].qos_profile, pair[1].qos_profile)
            if compatibility == QoSCompatibility.ERROR:
                asks, offers = ("offers", "asks for") if is_input else ("asks for", "offers")
                side = "subscription" if is_input else "publisher"
                found.append(
                    f"topic {topic}: {name} {asks} {_described(other.qos_profile)}; this node {offers} "
                    f"{_described(own.qos_profile)}: nothing arrives ({_reason(reason)}); change one of them, this node's "
                    f"with qos_overrides.{topic}.{side}"
                )
        return found


def _full_name(end: Any) -> str:
    return f"{end.node_namespace.rstrip('/')}/{end.node_name}"


def _described(profile: QoSProfile) -> str:
    return f"{_word(profile.reliability)}, {_word(profile.durability)}"


def _word(policy: Any) -> str:
    return str(policy.name).lower().replace("_", " ")


def _reason(said: str) -> str:
    """rmw's "ERROR: Best effort publisher and reliable subscription;" for a sentence."""
    return said.replace("ERROR: ", "").strip("; ").lower()
