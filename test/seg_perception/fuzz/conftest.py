"""Bounds of every fuzz test."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY_BYTES = 1 << 30  # beyond what the process has; inputs are kilobytes


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """What takes more memory fails with MemoryError, which is nowhere a documented answer."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    status = Path("/proc/self/status").read_text().splitlines()
    have_kb = int(next(line for line in status if line.startswith("VmData")).split()[1])
    resource.setrlimit(resource.RLIMIT_DATA, (have_kb * 1024 + MEMORY_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)
