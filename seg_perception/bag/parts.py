"""The files that make up a recording, and which of them are not there."""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Any

from seg_perception.plain_yaml import PlainYamlError, read_plain_yaml

STORAGE_SUFFIXES = (".mcap", ".db3")
METADATA = "metadata.yaml"
MAX_METADATA_BYTES = 4 << 20  # of the longest recordings' metadata ten times


def storage_files(path: Path) -> list[Path]:
    """The storage files of a recording that hold something, a split recording's in their order (bag_2 before bag_10)."""
    if path.is_file():
        return [path]
    files = [file for file in path.iterdir() if file.suffix in STORAGE_SUFFIXES and file.stat().st_size > 0]
    return sorted(files, key=lambda file: _natural(file.name))


def missing_parts(path: Path) -> list[str]:
    """What is not there of a recording in a folder: one clause a finding, none for a whole one or a lone file.

    Parts are those that metadata.yaml lists; where it cannot be read, gaps in the files' numbers tell.
    """
    if path.is_file():
        return []
    present = {file.name: file.stat().st_size for file in path.iterdir() if file.suffix in STORAGE_SUFFIXES}
    findings: list[str] = []
    listed: list[str] | None = None
    if (path / METADATA).is_file():
        try:
            listed = _listed(path / METADATA)
        except ValueError as error:
            findings.append(f"{METADATA} cannot be used: {error}")
    if listed is not None:
        gone = [name for name in listed if name not in present]
        unlisted = sorted(set(present) - set(listed), key=_natural)
        if unlisted:
            findings.append(f"{', '.join(unlisted[:4])} not listed in {METADATA}, left out")
    else:
        gone = _gaps(list(present))
    if gone:
        findings.append(f"{_names(gone)} missing")
    empty = sorted((name for name, size in present.items() if size == 0), key=_natural)
    if empty:
        findings.append(f"{_names(empty)} empty (0 bytes)")
    return findings


def metadata_problem(path: Path) -> str:
    """Why no other reader should be given the metadata.yaml of a folder; empty where it may, or there is none."""
    if (path / METADATA).is_file():
        try:
            _listed(path / METADATA)
        except ValueError as error:
            return f"{METADATA} cannot be used: {error}"
    return ""


def _listed(path: Path) -> list[str]:
    """File names in metadata.yaml. Raises ValueError, one line, where it has none."""
    try:
        content: Any = read_plain_yaml(path, MAX_METADATA_BYTES)
        names = content["rosbag2_bagfile_information"]["relative_file_paths"]
        return [PurePath(str(name)).name for name in names]
    except PlainYamlError as error:
        raise ValueError(f"it {error}") from error
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError("it has no rosbag2_bagfile_information with relative_file_paths") from error


def _gaps(names: list[str]) -> list[str]:
    """Names that a split recording's numbering skips: bag_1.mcap of bag_0.mcap and bag_2.mcap."""
    numbers: dict[tuple[str, str], set[int]] = {}
    for name in names:
        match = re.fullmatch(r"(.*_)(\d{1,6})(\.\w+)", name)
        if match:
            numbers.setdefault((match[1], match[3]), set()).add(int(match[2]))
    return [
        f"{stem}{number}{suffix}"
        for (stem, suffix), there in numbers.items()
        if min(there) <= 1  # else the numbers are dates or the like
        for number in range(0, max(there))
        if number not in there
    ][:20]


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"{shown} {'are' if len(names) > 1 else 'is'}"


def _natural(name: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
