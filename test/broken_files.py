"""Broken and hostile files, made of good ones by seeded mutations: what readers have to refuse in one line.

Each test takes a quick share of them. For many more: BROKEN_FILES=1000 pytest test/seg_models -k broken
"""

from __future__ import annotations

import copy
import io
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

ODD_NUMBERS = (True, -1, 0, 1, 7, 10**6, 10**12, 10**30, -0.5, float("nan"), float("inf"))
ODD_TEXTS = ("", "x", "../x", "a\nb\x1b[2J", "é" * 5000)
ODD_VALUES = (*ODD_NUMBERS, *ODD_TEXTS, None, [], {}, [1], [[]], {"a": 1}, {1: 2}, [0] * 1000, ["x", None])


def rounds(quick: int) -> range:
    """Seeds of a test: `quick` of them, or as many as the environment's BROKEN_FILES asks for."""
    return range(int(os.environ.get("BROKEN_FILES", quick)))


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def damaged_bytes(content: bytes, seed: int) -> tuple[str, bytes]:
    """A file cut off, with flipped bits, with a hole of zeros, with a part twice or left out; and what was done to it."""
    generator = random.Random(seed)
    place = generator.randrange(max(len(content), 1))
    length = generator.randrange(1, 1 + max(len(content) // 4, 1))
    how = ("cut", "flip", "flips", "zeros", "twice", "left out", "other bytes")[seed % 7]
    if how == "cut":
        return f"{how} at {place}", content[:place]
    if how == "twice":
        return f"{how} from {place}", content[: place + length] + content[place:]
    if how == "left out":
        return f"{how} {length} at {place}", content[:place] + content[place + length :]
    changed = bytearray(content)
    if how in ("flip", "flips"):
        for at in [place] if how == "flip" else [generator.randrange(len(changed)) for _ in range(20)]:
            changed[at] ^= 1 << generator.randrange(8)
    elif how == "zeros":
        changed[place : place + length] = bytes(len(changed[place : place + length]))
    else:
        changed[place : place + length] = generator.randbytes(len(changed[place : place + length]))
    return f"{how} at {place}", bytes(changed)


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths to all values inside nested dictionaries and lists."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from places(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield (*path, index)
            yield from places(inner, (*path, index))


def damaged_values(content: Any, seed: int) -> tuple[str, Any]:
    """Plain values of which one is another, missing, doubled or nested deep; and what was done to them."""
    generator = random.Random(seed)
    changed = copy.deepcopy(content)
    path = generator.choice(list(places(changed)))
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    last = path[-1]
    if isinstance(holder, tuple):  # no place to write to: its holder's value is exchanged instead
        return damaged_values(content, seed + 1_000_003)
    how = generator.choice(("value", "value", "value", "value", "missing", "unknown", "deep"))
    if how == "missing":
        del holder[last]
        return f"without {path}", changed
    if how == "unknown" and isinstance(holder, dict):
        holder["unknown " * generator.randrange(1, 300)] = 1
        return f"with something unknown beside {path}", changed
    value = nested(generator.choice((20, 100))) if how == "deep" else generator.choice(ODD_VALUES)
    holder[last] = value
    return f"{path} is {'deep' if how == 'deep' else repr(value)[:80]}", changed


def damaged_tensor(tensor: torch.Tensor, generator: random.Random) -> tuple[str, Any]:
    """A tensor of other numbers, shape, type or kind."""
    made: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("NaN", lambda: torch.full_like(tensor.float(), float("nan"))),
        (
            "one infinity",
            lambda: torch.where(torch.arange(tensor.numel()) == 0, torch.inf, tensor.flatten()).reshape(tensor.shape),
        ),
        ("transposed", lambda: tensor[None].transpose(0, -1).contiguous()),
        ("longer", lambda: torch.cat([tensor.reshape(-1), tensor.reshape(-1)])),
        ("a scalar", lambda: torch.tensor(1.0)),
        ("empty", lambda: torch.zeros(0)),
        ("integers", lambda: tensor.to(torch.int32)),
        ("complex", lambda: tensor.to(torch.complex64)),
        ("sparse", lambda: tensor.float().to_sparse()),
        ("quantized", lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8)),
        ("on no device", lambda: tensor.to("meta")),
        ("more than the file", lambda: torch.zeros(1).expand(10**6, 10**5)),
        ("no tensor", lambda: [1.0, 2.0]),
    )
    name, make = generator.choice(made)
    return name, make()


def damaged_state(state: dict[str, torch.Tensor], seed: int) -> tuple[str, dict[Any, Any]]:
    """A state dict with a tensor damaged, missing, or under another name."""
    generator = random.Random(seed)
    changed: dict[Any, Any] = dict(state)
    key = generator.choice(list(state))
    how = generator.choice(("tensor", "tensor", "tensor", "tensor", "missing", "renamed", "no name"))
    if how == "tensor":
        name, changed[key] = damaged_tensor(state[key], generator)
        return f"{key} is {name}", changed
    value = changed.pop(key)
    if how == "renamed":
        changed[generator.choice((f"{key}.x", f"{key}\nb", key[1:], f"module.{key}", "x" * 10_000))] = value
    elif how == "no name":
        changed[generator.choice((0, None, (1, 2)))] = value
    return f"{key} {how}", changed


def saved(content: Any, **options: Any) -> bytes:
    """A PyTorch file."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


class Command:
    """What a hostile file would run when it is unpickled by Python's own unpickler."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def repacked(content: bytes, change: Callable[[str, bytes], bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A PyTorch archive with other records, checksums right, or with the same ones compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w", method) as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return buffer.getvalue()


def hostile_checkpoints(good: bytes, marker: Path) -> dict[str, bytes]:
    """PyTorch files that a program wrote to do harm; `marker` appears if one of them ran code."""
    endless: dict[str, Any] = {}
    endless["state_dict"] = endless["hyper_parameters"] = endless
    pickle_of_command = saved({"state_dict": {"w": Command(marker)}, "hyper_parameters": Command(marker)})
    return {
        "code": pickle_of_command,
        "code, old form": saved({"state_dict": Command(marker)}, _use_new_zipfile_serialization=False),
        "packed": repacked(good, lambda name, record: record, zipfile.ZIP_DEFLATED),
        "bomb": repacked(
            good, lambda name, record: bytes(50_000_000) if name.endswith("/data/0") else record, zipfile.ZIP_DEFLATED
        ),
        "storages of another size": repacked(good, lambda name, record: record[:-4] if "/data/" in name else record),
        "no records": repacked(good, lambda name, record: b""),
        "deep pickle": repacked(
            good, lambda name, record: b"\x80\x02" + b"(" * 100_000 if name.endswith(".pkl") else record
        ),
        "unknown opcode": repacked(good, lambda name, record: b"\xff" if name.endswith(".pkl") else record),
        "empty pickle": repacked(good, lambda name, record: b"\x80\x02." if name.endswith(".pkl") else record),
        "huge string": repacked(
            good, lambda name, record: b"\x80\x02X\xff\xff\xff\x7f" if name.endswith(".pkl") else record
        ),
        "text that is no text": repacked(
            good, lambda name, record: b"\x80\x02X\x02\x00\x00\x00\xff\xfe." if name.endswith(".pkl") else record
        ),
        "memo of nothing": repacked(good, lambda name, record: b"\x80\x02h\x07." if name.endswith(".pkl") else record),
        "holds itself": saved(endless),
        "deep values": saved({"state_dict": {}, "hyper_parameters": nested(150)}),
        "a list": saved([1, 2, 3]),
        "nothing": saved(None),
        "header of safetensors": struct.pack("<Q", 2**63) + b"{",
    }


def png(rows: list[list[int]], bits: int, colour_type: int = 0, chunks: bytes = b"") -> bytes:
    """A PNG with values of 1 to 16 bits as they are given, a channel after the other; `chunks` lie in front of the pixels."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    lines = b""
    for row in rows:
        digits = "".join(format(value, f"0{bits}b") for value in row)
        digits += "0" * (-len(digits) % 8)
        lines += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")
    header = struct.pack(">IIBBBBB", len(rows[0]) // channels, len(rows), bits, colour_type, 0, 0, 0)
    parts = (png_chunk(b"IHDR", header), chunks, png_chunk(b"IDAT", zlib.compress(lines)), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One part of a PNG, with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
