"""Reads recordings that were not closed properly: a recorder killed, a battery gone, a copy cut short.

rosbags needs the index at the end of an MCAP file and a healthy database. Here the files are walked from the front,
and everything that is whole is given out.
"""

from __future__ import annotations

import sqlite3
import struct
from binascii import crc32
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from seg_perception.bag.storage_check import CHUNK, CHUNK_HEADER, FOOTER, MCAP_MAGIC, SQLITE_DAMAGE, problem_of, unpack

_SCHEMA, _CHANNEL, _MESSAGE = 0x03, 0x04, 0x05
_LAST_KIND = 0x0F  # of the format's records; from 0x80 on are those of others, which no recorder of ROS writes
_MESSAGE_HEADER = struct.Struct("<HIQQ")  # channel id, sequence, log time, publish time


@dataclass(frozen=True)
class RawMessage:
    """One message as recorded: its topic, when it was received, and its CDR bytes."""

    topic: str
    time_ns: int
    data: bytes


@dataclass
class Contents:
    """What a walk through a file found.

    Attributes:
        types: message type by topic.
        counts: whole messages by topic.
        start_ns, end_ns: times of the first and the last message, 0 where there is none.
        is_cut: the file ends before its end mark, or its last part cannot be read.
        damaged_places: chunks that do not match their checksum and records that make no sense; they were left out.
    """

    types: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    start_ns: int = 0
    end_ns: int = 0
    is_cut: bool = False
    damaged_places: int = 0

    def add(self, topic: str, time_ns: int) -> None:
        self.start_ns = time_ns if not self.counts else min(self.start_ns, time_ns)
        self.end_ns = max(self.end_ns, time_ns)
        self.counts[topic] += 1


class Recovery(Protocol):
    """A file that is read from the front."""

    contents: Contents

    def messages(self, topics: set[str]) -> Iterator[RawMessage]:
        """The whole messages on these topics, in the order of the file."""


class RecoveryError(ValueError):
    """Nothing can be read from the file."""


class McapRecovery:
    """Walks an MCAP file from its front; walks it once at the start to learn what it holds.

    Raises:
        RecoveryError: it is no MCAP file.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._topics: dict[int, str] = {}  # by channel id
        self._schemas: dict[int, str] = {}  # message type by schema id
        self.contents = Contents()
        with path.open("rb") as file:
            if file.read(8) != MCAP_MAGIC:
                raise RecoveryError("it does not start as an MCAP file")
        contents = self.contents
        for message in self._walk(contents):
            contents.add(message.topic, message.time_ns)

    def messages(self, topics: set[str]) -> Iterator[RawMessage]:
        for message in self._walk(Contents()):
            if message.topic in topics:
                yield message

    def _walk(self, contents: Contents) -> Iterator[RawMessage]:
        file_size = self._path.stat().st_size
        with self._path.open("rb") as file:
            file.seek(len(MCAP_MAGIC))
            while True:
                head = file.read(9)
                if len(head) < 9:
                    contents.is_cut = True
                    return
                kind, size = head[0], int.from_bytes(head[1:], "little")
                if kind == FOOTER:
                    return
                size = min(size, file_size)  # a damaged length must not be taken for an amount of memory
                if kind == CHUNK:
                    yield from self._chunk(file, size, contents)
                elif kind in (_SCHEMA, _CHANNEL, _MESSAGE):
                    content = file.read(size)
                    if len(content) < size:
                        contents.is_cut = True
                        return
                    yield from self._record(kind, content, contents)
                else:
                    if kind > _LAST_KIND:
                        contents.damaged_places += 1
                    file.seek(size, 1)

    def _chunk(self, file: BinaryIO, size: int, contents: Contents) -> Iterator[RawMessage]:
        content = file.read(size)
        if len(content) < CHUNK_HEADER.size:
            return  # the file ends here; the walk notices it at the next record
        _, _, unpacked_size, checksum, name_length = CHUNK_HEADER.unpack_from(content)
        start = CHUNK_HEADER.size + name_length + 8
        compression = content[CHUNK_HEADER.size : CHUNK_HEADER.size + name_length].decode(errors="replace")
        packed = content[start:]
        is_whole = len(content) == size
        records = unpack(packed, compression, unpacked_size)
        if is_whole and (len(records) != unpacked_size or (checksum and crc32(records) != checksum)):
            contents.damaged_places += 1
            return
        messages = list(self._records(records, contents))
        messages.sort(key=lambda message: message.time_ns)
        yield from messages

    def _records(self, records: bytes, contents: Contents) -> Iterator[RawMessage]:
        position = 0
        while position + 9 <= len(records):
            kind, size = records[position], int.from_bytes(records[position + 1 : position + 9], "little")
            position += 9
            if position + size > len(records):
                return
            yield from self._record(kind, records[position : position + size], contents)
            position += size

    def _record(self, kind: int, content: bytes, contents: Contents) -> Iterator[RawMessage]:
        try:
            message = self._parse(kind, content, contents)
        except struct.error:  # too short for what it says it is
            contents.damaged_places += 1
            return
        if message is not None:
            yield message

    def _parse(self, kind: int, content: bytes, contents: Contents) -> RawMessage | None:
        if kind == _MESSAGE:
            channel, _, log_time, _ = _MESSAGE_HEADER.unpack_from(content)
            if channel in self._topics:
                return RawMessage(self._topics[channel], log_time, content[_MESSAGE_HEADER.size :])
        elif kind == _SCHEMA:
            (schema,) = struct.unpack_from("<H", content)
            self._schemas[schema] = _string(content, 2)
        elif kind == _CHANNEL:
            channel, schema = struct.unpack_from("<HH", content)
            topic = _string(content, 4)
            self._topics[channel] = topic
            contents.types[topic] = self._schemas.get(schema, "")
        return None


def _string(content: bytes, position: int) -> str:
    (length,) = struct.unpack_from("<I", content, position)
    return content[position + 4 : position + 4 + length].decode(errors="replace")


class SqliteRecovery:
    """Reads a rosbag2 database in the order in which it was written, up to where it is damaged.

    Raises:
        RecoveryError: it is no rosbag2 database, or its first pages are damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.contents = Contents()
        problem = problem_of(path)
        if problem:
            raise RecoveryError(problem)
        try:
            with self._connect() as database:
                rows = database.execute("SELECT id, name, type FROM topics").fetchall()
        except SQLITE_DAMAGE as error:
            raise RecoveryError(f"it is no readable rosbag2 database ({error})") from error
        self._topics = {key: str(name) for key, name, _ in rows}
        self.contents.types = {str(name): str(kind) for _, name, kind in rows}
        for message in self._walk(self.contents):
            self.contents.add(message.topic, message.time_ns)

    def messages(self, topics: set[str]) -> Iterator[RawMessage]:
        for message in self._walk(Contents()):
            if message.topic in topics:
                yield message

    def _walk(self, contents: Contents) -> Iterator[RawMessage]:
        with self._connect() as database:
            try:
                # By row, not by time: the index on the time may be what is damaged.
                for topic_id, time_ns, data in database.execute(
                    "SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY rowid"
                ):
                    # Any column may hold any type: SQLite's are only a suggestion.
                    if not isinstance(time_ns, int) or not isinstance(data, bytes):
                        contents.damaged_places += 1
                    elif topic_id in self._topics:
                        yield RawMessage(self._topics[topic_id], time_ns, data)
            except SQLITE_DAMAGE:
                contents.is_cut = True

    def _connect(self) -> _ClosingConnection:
        return _ClosingConnection(self._path)


class _ClosingConnection:
    """A read-only connection. sqlite3's own context manager ends a transaction but leaves the file open."""

    def __init__(self, path: Path) -> None:
        uri = f"{path.resolve().as_uri()}?immutable=1"
        self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        # SQLite refuses a file that is shorter than its header says, but for those who repair one.
        self._connection.execute("PRAGMA writable_schema = ON")

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()
