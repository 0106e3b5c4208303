"""YAML files of plain values, read within bounds: size, depth, and what aliases unfold to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from seg_models.messages import one_line

MAX_BYTES = 1_000_000  # the label table of 150 classes has 9,000
MAX_DEPTH = 16
MAX_VALUES = 100_000


class YamlError(ValueError):
    """A file or text that is no YAML, or past the bounds; one line that names the file."""


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        YamlError: it cannot be read, is no UTF-8, no YAML, or past the bounds of this module.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise YamlError(f"{path} is larger than {MAX_BYTES:,} bytes; expected a YAML file written by hand")
        return parse_yaml(content.decode("utf-8"), str(path))
    except OSError as error:
        raise YamlError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise YamlError(f"{path} is no UTF-8 at byte {error.start}; expected a YAML file") from error


def parse_yaml(text: str, where: str) -> Any:
    """What YAML text holds; `where` names it in messages.

    Raises:
        YamlError: it is no YAML, or past the bounds of this module.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):  # the composer behind it calls itself, a level each time
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise YamlError(f"{where} is nested more than {MAX_DEPTH} deep")
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" in line {mark.line + 1}" if mark else ""
        raise YamlError(f"{where} is no YAML{place}: {one_line(error.problem or error.context, 200)}") from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        if isinstance(error, YamlError):
            raise
        # The reader refuses control characters; the constructor trips over impossible dates and unhashable keys.
        raise YamlError(f"{where} is no YAML: {one_line(error, 200)}") from error
    _check_size(content, where)
    return content


def _check_size(content: Any, where: str) -> None:
    """Count every value as often as aliases repeat it; a value that holds itself has no end, so depth is held too."""
    level, count = [content], 0
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list | set | tuple):
                inner += value
            if count + len(inner) > MAX_VALUES:
                raise YamlError(f"{where} holds more than {MAX_VALUES:,} values, aliases unfolded")
        count += len(inner)
        level = inner
        if not inner:
            return
    raise YamlError(f"{where} is nested more than {MAX_DEPTH} deep, aliases unfolded")
