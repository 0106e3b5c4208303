"""What the doctor found, one fact each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One fact about the machine.

    Attributes:
        group: what it belongs to, such as "DDS".
        name: what was looked at.
        value: what was found, one line.
        state: "problem" where something does not work, "warning" where it will under some conditions, else "ok".
        why: what goes wrong because of it; empty for "ok".
        repair: the line, mostly a command, that puts it right; empty for "ok".
    """

    group: str
    name: str
    value: str
    state: State = "ok"
    why: str = ""
    repair: str = ""
