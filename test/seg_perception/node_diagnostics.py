"""What a node says on /diagnostics, and what the kernel says of its process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Diagnostics:
    """Listens to /diagnostics; keeps the newest status of each name.

    Args:
        node: a spinning rclpy node.
    """

    def __init__(self, node: Any) -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        self._newest: dict[str, Any] = {}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_message, 10)

    def _on_message(self, message: Any) -> None:
        self._newest.update({status.name: status for status in message.status})

    def level(self, name: str) -> int:
        """0 OK, 1 WARN, 2 ERROR, 3 STALE; -1 before the first."""
        return int.from_bytes(self._newest[name].level, "little") if name in self._newest else -1

    def message(self, name: str) -> str:
        """The line of the newest status; empty before the first."""
        return self._newest[name].message if name in self._newest else ""

    def values(self, name: str) -> dict[str, str]:
        """The values of the newest status."""
        return {value.key: value.value for value in self._newest[name].values} if name in self._newest else {}


@dataclass(frozen=True)
class Figures:
    """Of a process: private memory that holds something in MB, threads, open files."""

    memory_mb: float
    threads: int
    files: int


def figures(pid: int) -> Figures:
    """What a process has now."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    numbers = {line.split(":")[0]: line.split()[1] for line in status if line.startswith(("RssAnon", "Threads"))}
    return Figures(int(numbers["RssAnon"]) / 1024, int(numbers["Threads"]), len(os.listdir(f"/proc/{pid}/fd")))
