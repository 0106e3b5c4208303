"""The files of a recording, opened by rosbags where they are sound and read from their front where they are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rosbags.interfaces import Connection, ConnectionExtRosbag2, QosDurability, QosReliability
from rosbags.rosbag2 import Reader

from seg_perception.bag.recovery import McapRecovery, RawMessage, Recovery, RecoveryError, SqliteRecovery


@dataclass(frozen=True)
class OfferedQos:
    """What the recorded publishers of a topic offered, taken together: the strongest that one of them did.

    Attributes:
        reliable: otherwise best effort.
        transient_local: late subscribers get the last messages too; otherwise volatile.
        depth: messages kept; 0 where it was not recorded.
    """

    reliable: bool
    transient_local: bool
    depth: int


@dataclass(frozen=True)
class Topic:
    """One topic of a recording; `offered_qos` is None where it was not recorded."""

    name: str
    type: str
    count: int
    offered_qos: OfferedQos | None = None

    def __str__(self) -> str:
        return f"{shown_name(self.name)} ({shown_name(self.type)}, {self.count} messages)"


def shown_name(name: str) -> str:
    """A topic's or type's name for a message of one line: a damaged file may have anything there."""
    return " ".join(name[:200].split())


class Source(Protocol):
    """A file or folder that is being read."""

    topics: dict[str, Topic]
    start_ns: int
    end_ns: int

    def messages(self, topics: set[str]) -> Iterator[RawMessage]: ...

    def close(self) -> None: ...


class SoundSource:
    """A recording that rosbags opens.

    Raises:
        ValueError: columns of a database hold something else than names, times and bytes, which SQLite allows; also from
            `messages`. rosbags raises more, without a common class.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.files = list(files)
        self._reader = Reader(path)
        self._reader.open()
        self.topics = {
            name: Topic(name, topic.msgtype or "mixed types", topic.msgcount, _offered_qos(topic.connections))
            for name, topic in self._reader.topics.items()
        }
        if not all(isinstance(topic.name, str) and isinstance(topic.type, str) for topic in self.topics.values()):
            raise ValueError("a topic's name or type is no text")
        has_messages = self._reader.message_count > 0
        self.start_ns = self._reader.start_time if has_messages else 0
        self.end_ns = self._reader.end_time - 1 if has_messages else 0  # rosbags counts to just after the last

    def messages(self, topics: set[str]) -> Iterator[RawMessage]:
        connections = [connection for connection in self._reader.connections if connection.topic in topics]
        if connections:
            for connection, time_ns, data in self._reader.messages(connections):
                if not isinstance(time_ns, int) or not isinstance(data, bytes | memoryview):
                    raise ValueError("a message without a time, or without bytes")
                yield RawMessage(connection.topic, time_ns, data)

    def close(self) -> None:
        if self._reader.is_open:
            self._reader.close()


def _offered_qos(connections: Sequence[Connection]) -> OfferedQos | None:
    profiles = [
        profile
        for connection in connections
        if isinstance(connection.ext, ConnectionExtRosbag2)
        for profile in connection.ext.offered_qos_profiles
    ]
    if not profiles:
        return None
    return OfferedQos(
        reliable=any(profile.reliability != QosReliability.BEST_EFFORT for profile in profiles),
        transient_local=any(profile.durability == QosDurability.TRANSIENT_LOCAL for profile in profiles),
        depth=max(profile.depth for profile in profiles),
    )


class RecoveredSource:
    """A file that is read from its front."""

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery
        contents = recovery.contents
        self.topics = {name: Topic(name, kind, contents.counts[name]) for name, kind in contents.types.items()}
        self.start_ns = contents.start_ns
        self.end_ns = contents.end_ns

    def messages(self, topics: set[str]) -> Iterator[RawMessage]:
        return self._recovery.messages(topics)

    def close(self) -> None:
        """Files are open only while messages are read."""


def recover(files: Sequence[Path]) -> tuple[list[Source], str]:
    """Every file read from its front, and one line on what is damaged in them.

    Raises:
        RecoveryError: nothing can be read from any of them.
    """
    sources: list[Source] = []
    damages: list[str] = []
    for file in files:
        try:
            recovery: Recovery = McapRecovery(file) if file.suffix == ".mcap" else SqliteRecovery(file)
        except (RecoveryError, OSError) as error:
            damages.append(f"{file.name} cannot be read: {error}")
            continue
        contents = recovery.contents
        total = sum(contents.counts.values())
        if contents.is_cut:
            damages.append(f"{file.name} ends early, {total} whole messages in it")
        if contents.damaged_places:
            places = f"{contents.damaged_places} damaged place{'s' if contents.damaged_places > 1 else ''}"
            damages.append(f"{file.name} has {places}, left out; {total} messages remain")
        sources.append(RecoveredSource(recovery))
    if not any(source.topics for source in sources):
        raise RecoveryError("; ".join(damages) or "it holds no topic")
    return sources, "; ".join(damages)
