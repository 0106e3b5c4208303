"""What files say of themselves, made fit for a one-line message: bounded, on one line, printable."""

from __future__ import annotations

import reprlib


def one_line(text: object, limit: int = 600) -> str:
    """Text without line breaks, control characters and lone surrogates, cut to `limit` characters."""
    words = " ".join(str(text)[: 4 * limit].split())
    printable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)
    return printable if len(printable) <= limit else f"{printable[: limit - 3]}..."


def shown(value: object, limit: int = 80) -> str:
    """A value as Python writes it, at most a few items and levels of it and `limit` characters of a string."""
    return one_line(_Short(limit).repr(value), 4 * limit)


class _Short(reprlib.Repr):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self.maxstring = self.maxother = limit
        self.maxlong = 24
        self.maxlevel = 4
