"""Opens a recording - a rosbag2 folder, a lone .mcap or a lone .db3 - and hands out its messages. No ROS needed.

A recording that was not closed properly is read as far as it is whole: `BagReader.damage` then says in one line what
is missing, and `BagReader.truncated` is true.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_typestore

from seg_perception.bag.parts import METADATA, STORAGE_SUFFIXES, metadata_problem, missing_parts, storage_files
from seg_perception.bag.recovery import RawMessage, RecoveryError
from seg_perception.bag.sources import SoundSource, Source, Topic, recover, shown_name
from seg_perception.bag.storage_check import problem_of

logger = logging.getLogger(__name__)

MAX_DETAIL = 300  # letters of what other libraries say of damaged bytes, which they may quote


class BagError(ValueError):
    """A recording cannot be read, or lacks what was asked for. The message is one line."""


class MessageError(ValueError):
    """One message of a recording cannot be decoded. The message is one line."""


@dataclass(frozen=True)
class BagMessage:
    """One message as recorded.

    Attributes:
        topic: its topic.
        type: its type, such as "sensor_msgs/msg/Image".
        time_ns: when the recorder received it.
        data: its CDR bytes; `BagReader.deserialize` decodes them.
    """

    topic: str
    type: str
    time_ns: int
    data: bytes


class BagReader:
    """An open recording; see `open_bag`. Use it as a context manager or call `close`.

    Attributes:
        path: as given.
        damage: one line on what is damaged, empty for a sound recording. It may grow while messages are read.
    """

    def __init__(self, path: Path, sources: Sequence[Source], damage: str) -> None:
        self.path = path
        self.damage = damage
        self._sources = list(sources)
        self._told_of_missing = False
        self._typestore = get_typestore(Stores.ROS2_JAZZY)

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for source in self._sources:
            source.close()

    @property
    def truncated(self) -> bool:
        """Whether messages are missing because the recording is cut short or damaged."""
        return bool(self.damage)

    @property
    def start_ns(self) -> int:
        """Time of the first message, 0 where there is none."""
        return min((source.start_ns for source in self._sources if source.topics), default=0)

    @property
    def end_ns(self) -> int:
        """Time of the last message, 0 where there is none."""
        return max((source.end_ns for source in self._sources if source.topics), default=0)

    def topics(self) -> dict[str, Topic]:
        """The topics by name; counts are of the messages that can be read."""
        result: dict[str, Topic] = {}
        for source in self._sources:
            for name, topic in source.topics.items():
                before = result[name].count if name in result else 0
                result[name] = replace(topic, count=before + topic.count)
        return dict(sorted(result.items()))

    def topic(self, name: str, types: Collection[str] = ()) -> Topic:
        """The topic of this name.

        Args:
            name: of the topic, with its leading slash.
            types: the message types that will do; empty for any.

        Raises:
            BagError: there is no such topic (the message lists those there are), or it is of another type.
        """
        topics = self.topics()
        if name not in topics:
            have = "; ".join(str(topic) for topic in topics.values()) or "none"
            raise BagError(f"bag {self.path} has no topic {name!r}; it has: {have}")
        topic = topics[name]
        if types and topic.type not in types:
            kind = shown_name(topic.type)
            raise BagError(f"topic {name} of bag {self.path} is {kind}, expected {' or '.join(types)}")
        return topic

    def messages(self, topics: Collection[str] = ()) -> Iterator[BagMessage]:
        """Messages in the order in which they were recorded.

        Args:
            topics: names of those wanted; empty for all.

        Raises:
            BagError: a topic is not in the recording.
        """
        for name in topics:
            self.topic(name)
        types = {name: topic.type for name, topic in self.topics().items()}
        wanted = set(topics) or set(types)
        streams = [self._read(source, wanted) for source in self._sources]
        for message in heapq.merge(*streams, key=lambda message: message.time_ns):
            yield BagMessage(message.topic, types[message.topic], message.time_ns, message.data)

    def _read(self, source: Source, topics: set[str]) -> Iterator[RawMessage]:
        """One source's messages; a damaged place that its index did not show is passed by reading from the front."""
        last_ns, count = -1, 0
        try:
            for message in source.messages(topics):
                last_ns, count = message.time_ns, count + 1
                yield message
            expected = sum(topic.count for name, topic in source.topics.items() if name in topics)
            if count < expected and not self._told_of_missing:
                self._told_of_missing = True
                self._note(f"{expected - count} of the {expected} messages that its index counts are not there")
            return
        except Exception as error:  # see open_bag
            if not isinstance(source, SoundSource):
                raise BagError(f"bag {self.path} cannot be read on after {count} messages: {error}") from error
            detail = _one_line(error)
        source.close()
        try:
            self._sources, damage = recover(source.files)  # a sound source is the only one
        except RecoveryError as error:
            raise BagError(f"bag {self.path} cannot be read on after {count} messages: {detail}; {error}") from error
        self._note(f"a damaged place after message {count} ({detail}); {damage or 'passed over'}")
        for recovered in self._sources:
            for message in recovered.messages(topics):
                if message.time_ns > last_ns:
                    yield message

    def _note(self, damage: str) -> None:
        logger.warning("bag %s: %s", self.path, damage)
        self.damage = f"{self.damage}; {damage}" if self.damage else damage

    def deserialize(self, message: BagMessage) -> Any:
        """A message as an object with the attributes of its type.

        Raises:
            MessageError: its bytes do not make such a message.
        """
        try:
            return self._typestore.deserialize_cdr(message.data, message.type)
        except Exception as error:  # generated code: whatever indexing and unpacking raise
            raise MessageError(
                f"message on {shown_name(message.topic)} at {message.time_ns} ns ({len(message.data)} bytes) is no whole "
                f"{shown_name(message.type)}: {_one_line(error) or type(error).__name__}"
            ) from error


def open_bag(path: str | Path) -> BagReader:
    """Open a recording: a rosbag2 folder, with or without its metadata.yaml, or a lone .mcap or .db3 file.

    A damaged recording opens too, with one warning in the log and in `BagReader.damage`.

    Raises:
        BagError: there is none, or nothing in it can be read.
    """
    path = Path(path)
    try:
        is_there = path.exists()
    except OSError as error:  # a folder on the way that may not be entered, or a name that is too long
        raise BagError(f"bag {path} cannot be read: {error.strerror}") from error
    if not is_there:
        raise BagError(f"bag {path} does not exist; give a rosbag2 folder, a .mcap or a .db3 file")
    if not path.is_file() and not path.is_dir():
        raise BagError(f"bag {path} is neither a file nor a folder; expected a rosbag2 folder, .mcap or .db3")
    if path.is_file() and path.suffix not in STORAGE_SUFFIXES:
        raise BagError(f"bag {path} is a {path.suffix or 'nameless'} file; expected a rosbag2 folder, .mcap or .db3")
    files = storage_files(path)
    if path.is_dir() and not files and not (path / METADATA).exists():
        raise BagError(f"folder {path} holds no recording: no metadata.yaml, no .mcap and no .db3 file")
    if path.is_file() and path.stat().st_size == 0:
        raise BagError(f"bag {path} is empty (0 bytes)")
    findings = missing_parts(path)
    detail = metadata_problem(path) or next((problem for problem in map(problem_of, files) if problem), "")
    if not detail:
        try:
            source = SoundSource(path, files)
        except Exception as error:  # on damaged bytes rosbags raises anything, from KeyError to MemoryError
            detail = _one_line(error) or type(error).__name__
        else:
            if findings:
                logger.warning("bag %s: %s", path, "; ".join(findings))
            return BagReader(path, [source], "; ".join(findings))
    try:
        sources, damage = recover(files)
    except RecoveryError as error:
        raise BagError(f"bag {path} cannot be read: {error} ({detail})") from error
    if path.is_dir() and not (path / METADATA).exists():
        findings.insert(0, f"{METADATA} is missing{'' if damage or findings else ', its files are whole'}")
    damage = "; ".join([*findings, *([damage] if damage else [])])
    if not damage:
        damage = f"its index or headers are damaged ({detail}); what can be found from the front is read"
    reader = BagReader(path, sources, damage)
    if damage:
        logger.warning("bag %s was not closed properly: %s; reading what is whole", path, damage)
    return reader


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:MAX_DETAIL]
