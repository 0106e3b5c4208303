"""Makes broken files out of whole ones, from a seed: cut, with flipped bits, with bytes inserted, removed or doubled."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def damaged(whole: bytes, count: int, seed: int) -> Iterator[bytes]:
    """`count` broken copies, no two ways of damage in a row the same."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        data = bytearray(whole)
        place = int(rng.integers(0, len(data)))
        length = int(rng.integers(1, 64))
        kind = number % 6
        if kind == 0:
            del data[place:]
        elif kind == 1:
            for where in rng.integers(0, len(data), int(rng.integers(1, 20))):
                data[where] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            data[place:place] = rng.integers(0, 256, length, np.uint8).tobytes()
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place : place + length] = bytes([int(rng.choice([0x00, 0x7F, 0x80, 0xFF]))]) * length
        else:
            data[place:place] = data[place : place + length] * 3
        yield bytes(data)


def varint(number: int) -> bytes:
    """A protocol-buffer number."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes) -> bytes:
    """A protocol-buffer field of bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content
