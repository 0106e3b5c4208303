"""A look at a storage file before anything else opens it: what it would unpack to, and whether its tables are tables."""

from __future__ import annotations

import sqlite3
import struct
import sys
from binascii import crc32
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

import lz4.frame

MCAP_MAGIC = b"\x89MCAP0\r\n"
FOOTER, CHUNK = 0x02, 0x06
CHUNK_HEADER = struct.Struct("<QQQII")  # first and last time, size once unpacked, CRC-32, length of what follows
# A chunk is a few megabytes, or one message where that is larger. 512 MiB hold ten seconds of raw video.
MAX_CHUNK_BYTES = 512 << 20
# sqlite3 raises the second where the damaged bytes come to stand in its own message.
SQLITE_DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)
LZ4_MOST = 256  # times that LZ4 can shrink anything


def problem_of(path: Path) -> str:
    """What is wrong with a file that other readers would not notice, or not survive; empty where nothing is.

    A damaged file may have none: those readers tell.
    """
    try:
        return _mcap_problem(path) if path.suffix == ".mcap" else _sqlite_problem(path)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def unpack(packed: bytes, compression: str, size: int) -> bytes:
    """A chunk's records; empty where they are damaged, or not of the size that the chunk states.

    Args:
        packed: what is stored.
        compression: "", "zstd" or "lz4".
        size: once unpacked, as stated. No more is unpacked than that, and nothing of more than MAX_CHUNK_BYTES.
    """
    if size > MAX_CHUNK_BYTES:
        return b""
    if compression == "":
        return packed
    try:
        # One byte more than stated tells that there is more.
        if compression == "zstd":
            return zstd.ZstdDecompressor().decompress(packed, size + 1)
        if compression == "lz4":
            return lz4.frame.LZ4FrameDecompressor().decompress(packed, size + 1)
    except (zstd.ZstdError, RuntimeError, EOFError):
        return b""
    return b""


@dataclass(frozen=True)
class _Chunk:
    position: int
    size: int  # once unpacked
    packed_size: int
    compression: str
    head: bytes  # first bytes of what is packed


def _mcap_problem(path: Path) -> str:
    with path.open("rb") as file:
        for chunk in _chunks(file):
            if chunk.size > MAX_CHUNK_BYTES:
                return (
                    f"{path.name}: the chunk at byte {chunk.position} states {chunk.size} bytes, expected at most "
                    f"{MAX_CHUNK_BYTES}"
                )
            if _unpacks_to_more(file, chunk):
                return f"{path.name}: the chunk at byte {chunk.position} unpacks to more than the {chunk.size} bytes it states"
        return "" if _summary_is_whole(file) else f"{path.name}: its index does not match its checksum"


def _chunks(file: BinaryIO) -> Iterator[_Chunk]:
    """The chunks of a file by their headers; ends at the first place that makes no sense."""
    file.seek(0, 2)
    end = file.tell()
    position = len(MCAP_MAGIC)
    while position + 9 <= end:
        file.seek(position)
        head = file.read(9)
        kind, size = head[0], int.from_bytes(head[1:], "little")
        if kind == FOOTER or position + 9 + size > end:
            return
        if kind == CHUNK and size >= CHUNK_HEADER.size + 8:
            content = file.read(min(size, 256))
            _, _, unpacked_size, _, name_length = CHUNK_HEADER.unpack_from(content)
            start = CHUNK_HEADER.size + name_length
            if start + 8 <= len(content):
                compression = content[CHUNK_HEADER.size : start].decode(errors="replace")
                packed_size = int.from_bytes(content[start : start + 8], "little")
                yield _Chunk(position, unpacked_size, packed_size, compression, content[start + 8 :])
        position += 9 + size


def _unpacks_to_more(file: BinaryIO, chunk: _Chunk) -> bool:
    """Whether a reader that trusts the packed bytes would make more of them than the chunk states."""
    if chunk.compression == "zstd":
        try:
            stated = zstd.get_frame_info(chunk.head).decompressed_size
        except zstd.ZstdError:
            return False  # damaged: whoever reads it tells
        if stated is not None:
            return stated > chunk.size
        most = None  # unknown: it has to be tried
    elif chunk.compression == "lz4":
        most = LZ4_MOST * chunk.packed_size
    else:
        return False
    if most is not None and most <= MAX_CHUNK_BYTES:
        return False
    file.seek(chunk.position + 9 + CHUNK_HEADER.size + len(chunk.compression) + 8)
    packed = file.read(chunk.packed_size)
    return len(unpack(packed, chunk.compression, chunk.size)) > chunk.size


def _summary_is_whole(file: BinaryIO) -> bool:
    """Whether the index at the end matches the checksum in the footer; True where there is none to compare.

    Readers that go by the index pass over what a damaged one leaves out.
    """
    file.seek(0, 2)
    end = file.tell()
    if end < 45:
        return True
    file.seek(end - 37)
    footer = file.read(37)
    if footer[0] != FOOTER or footer[-8:] != MCAP_MAGIC:
        return True  # not closed properly: whoever reads it tells
    summary_start, _, checksum = struct.unpack_from("<QQI", footer, 9)
    if not checksum or not 0 < summary_start < end - 37:
        return True
    file.seek(summary_start)
    return crc32(file.read(end - 12 - summary_start)) == checksum  # up to the checksum itself


def _sqlite_problem(path: Path) -> str:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)
    try:
        rows = connection.execute(
            "SELECT name, type, sql FROM sqlite_master WHERE name IN ('topics', 'messages', 'schema', 'metadata')"
        ).fetchall()
    except SQLITE_DAMAGE:
        return ""  # whoever reads it tells
    finally:
        connection.close()
    for name, kind, sql in rows:
        words = str(sql).upper().split()[:2]
        if kind != "table" or words != ["CREATE", "TABLE"]:
            return f"{path.name}: {name} is a {'virtual table' if kind == 'table' else kind}, expected a table"
    return ""
