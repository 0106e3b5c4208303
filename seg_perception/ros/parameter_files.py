"""Looks at the parameter files given to the process before ROS does, which would answer with a traceback."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from seg_perception.plain_yaml import PlainYamlError, read_plain_yaml

MAX_FILE_BYTES = 1 << 20  # of a whole robot's parameters ten times


class ParameterFileError(ValueError):
    """A parameter file is missing or none. The message is one line."""


def check_parameter_files(arguments: Sequence[str]) -> None:
    """Check every `--params-file PATH` among the arguments of a process.

    Raises:
        ParameterFileError: it cannot be read, is no YAML, or has not the form `node: {ros__parameters: {...}}`.
    """
    for flag, path in pairwise(arguments):
        if flag == "--params-file":
            _check(Path(path))


def _check(path: Path) -> None:
    form = "`NODE: {ros__parameters: {NAME: VALUE}}` with NODE such as /segmentation or /**"
    try:
        content = read_plain_yaml(path, MAX_FILE_BYTES)
    except PlainYamlError as error:
        raise ParameterFileError(f"parameter file {path} {error}") from error
    if not isinstance(content, dict) or not all(_has_parameters(value) for value in content.values()):
        raise ParameterFileError(f"parameter file {path} has no parameters of nodes; expected {form}")


def _has_parameters(value: object) -> bool:
    """Whether a mapping holds `ros__parameters` itself, or (namespaces) in all its values."""
    if not isinstance(value, dict) or not value:
        return False
    if "ros__parameters" in value:
        return isinstance(value["ros__parameters"], dict)
    return all(_has_parameters(inner) for inner in value.values())
