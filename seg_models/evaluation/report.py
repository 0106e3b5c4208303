"""What an evaluation found: for a person, and for a program."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_models.evaluation.class_scores import ClassScores
from seg_models.evaluation.measures import Measure
from seg_models.evaluation.protocol import Protocol


class TargetError(ValueError):
    """A file that could not be written when all is done."""


def check_target(path: Path) -> None:
    """See, before the work, that a file can be written.

    Raises:
        TargetError: its folder is not there or nothing may be written in it, or it is a folder itself.
    """
    if not path.parent.is_dir():
        raise TargetError(f"{path.parent} is not a folder; make it first, {path.name} is to be written there")
    if path.is_dir():
        raise TargetError(f"{path} is a folder; expected the name of a file to write")
    if not os.access(path.parent, os.W_OK):
        raise TargetError(f"nothing may be written to {path.parent}; choose another place for {path.name}")


def lines(scores: ClassScores, measures: Sequence[Measure], data: str, protocol: Protocol) -> list[str]:
    """IoU of each class, the other measures, means, and how it was judged."""
    *classes, means = scores.lines()
    text = [*classes, *(line for measure in measures for line in measure.lines())]
    text.append(f"{means}  ({len(scores.images)} images of {data})")
    if protocol.mode == "resize":
        return [*text, "each image squeezed into the network's input"]
    return [*text, ", ".join(f"{key} {value}" for key, value in dataclasses.asdict(protocol).items())]


def figures(
    scores: ClassScores, measures: Sequence[Measure], about: Mapping[str, Any], protocol: Protocol
) -> dict[str, Any]:
    """The same as plain JSON types; None where no pixel had a label.

    Args:
        scores: of the classes.
        measures: further ones, each under its name.
        about: what was scored: "model", "data", "split".
        protocol: how.
    """
    found = {**scores.figures(), **about, "protocol": dataclasses.asdict(protocol)}
    found["confusion"] = scores.counts.tolist()
    return found | {measure.name: measure.figures() for measure in measures}


def write_json(path: Path, found: Mapping[str, Any]) -> None:
    """Write figures; see `write_text`."""
    write_text(path, json.dumps(found, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write beside the target and rename, so that nobody reads half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
