"""What is to be scored: the recordings of a folder or list, and the key that says whether one has been scored before."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

STORAGE_SUFFIXES = (".mcap", ".db3")
METADATA_NAME = "metadata.yaml"
SCORES_FORMAT = 2  # of the files that keep scores; those of another one count as not done


@dataclass(frozen=True)
class ScoringOptions:
    """What the scores of a recording depend on beside the model; see `EvaluateOptions`. `window` is in frames."""

    image_topic: str | None = None
    label_topic: str | None = None
    engine: str = "auto"
    precision: str = "f32"
    max_frames: int = 0
    window: int = 30


@dataclass(frozen=True)
class Job:
    """One recording and one model.

    Attributes:
        bag, model: their paths.
        digest: `model_digest` of the model.
        options: how to score.
        threads: CPU threads of the engine.
        result: the file that the scores go to; its name is the key of recording, model and options.
    """

    bag: Path
    model: Path
    digest: str
    options: ScoringOptions
    threads: int
    result: Path


def find_bags(source: Path) -> list[Path]:
    """The recordings of a folder, at any depth, or of a text file with a path a line.

    A folder with metadata.yaml is one recording; elsewhere each .mcap and .db3 is one. Paths in a list are relative to
    the list; empty lines and lines that begin with # do not count. A listed path need not exist.

    Returns:
        Sorted for a folder, in the list's order for a list, each once.

    Raises:
        ValueError: there is no recording.
        OSError: the list cannot be read.
    """
    if source.is_dir():
        bags = _in_folder(source)
        if not bags:
            raise ValueError(f"{source} has no recording: expected folders with {METADATA_NAME}, .mcap or .db3 files")
        return _each_once(bags)
    if source.suffix in STORAGE_SUFFIXES:
        return [source]
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is no text file: expected a folder, or a list with a recording a line") from error
    lines = [line.strip() for line in text.splitlines()]
    bags = [source.parent / line for line in lines if line and not line.startswith("#")]
    if not bags:
        raise ValueError(f"{source} names no recording: expected a path a line")
    return _each_once(bags)


def _each_once(bags: list[Path]) -> list[Path]:
    """Without further names, such as links, of the same recording: it would count twice."""
    first: dict[Path, Path] = {}
    for bag in bags:
        first.setdefault(bag.resolve(), bag)
    return list(first.values())


def _in_folder(source: Path) -> list[Path]:
    bags = []
    for folder, subfolders, names in os.walk(source):
        if METADATA_NAME in names:
            bags.append(Path(folder))
            subfolders.clear()
        else:
            bags += [Path(folder, name) for name in names if name.endswith(STORAGE_SUFFIXES)]
    return sorted(bags)


def model_digest(model: Path) -> str:
    """SHA-256 of the model's file, in hex."""
    return hashlib.sha256(model.read_bytes()).hexdigest()


def job_key(bag: Path, digest: str, options: ScoringOptions) -> str:
    """32 hex digits that change with the recording's path, sizes or times, with the model, and with the options."""
    files = sorted(path for path in bag.rglob("*") if path.is_file()) if bag.is_dir() else [bag]
    states = []
    for path in files:
        try:
            state = path.stat()
        except OSError:  # what is not there is reported when it is opened
            continue
        states.append([str(path.resolve()), state.st_size, state.st_mtime_ns])
    identity = json.dumps([SCORES_FORMAT, str(bag.resolve()), states, digest, asdict(options)])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]
