"""Compiled loops run whatever is the matter with the disk that keeps them."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest

from seg_perception.compiled import compiled


def plus_one(x: int) -> int:
    return x + 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """numba's cache."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """The lines of the log so far."""
    with caplog.at_level(logging.WARNING):
        yield lambda: [record.getMessage() for record in caplog.records]


def test_what_was_compiled_is_kept(folder: Path, said: Callable[[], list[str]]) -> None:
    assert compiled(plus_one)(1) == 2
    assert list(folder.rglob("*.nbc"))
    again: Any = compiled(plus_one)
    assert again(1) == 2
    assert sum(again.stats.cache_hits.values()) == 1
    assert not said()


def test_without_a_place_it_is_compiled_all_the_same(said: Callable[[], list[str]]) -> None:
    names: dict[str, Any] = {}
    exec("def nowhere(x): return x + 1", names)  # of no file, so that numba has no place beside it
    assert compiled(names["nowhere"])(1) == 2
    (line,) = said()
    assert "NUMBA_CACHE_DIR=/a/writable/folder" in line


def test_a_disk_that_takes_nothing_costs_time_and_one_line(folder: Path, said: Callable[[], list[str]]) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # from now on no file can grow
    try:
        loop = compiled(plus_one)
        assert loop(1) == 2
        assert loop(1.5) == 2.5  # another kind of argument, another file
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (line,) = said()
    assert f"numba's cache {folder}" in line
    assert "cannot be written: [Errno 27] File too large" in line


@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x04."])
def test_damaged_files_of_the_cache_are_told_and_left_aside(
    folder: Path, said: Callable[[], list[str]], kind: str, content: bytes
) -> None:
    assert compiled(plus_one)(1) == 2
    for file in folder.rglob(kind):
        file.write_bytes(content)
    assert compiled(plus_one)(1) == 2
    assert len(said()) == 1
