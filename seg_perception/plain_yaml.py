"""YAML files that people and other programs wrote, read without trusting them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class PlainYamlError(ValueError):
    """The file cannot be used. The message is a clause that goes on after the file's name: "is no YAML: ..."."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases: a kilobyte of them stands for gigabytes, or for itself without an end."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise PlainYamlError(
                f"has the alias *{event.anchor[:80]} in line {event.start_mark.line + 1}, expected what it stands for"
            )
        return super().compose_node(parent, index)


def read_plain_yaml(path: Path, max_bytes: int) -> Any:
    """The content of a YAML file as dict, list, str, int, float, bool, date or None; memory grows with its length alone.

    Raises:
        PlainYamlError: it cannot be read, is no file (a pipe or device has no end), is longer than `max_bytes`, or no YAML.
    """
    try:
        if path.exists() and not path.is_file():
            raise PlainYamlError("is not a file")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise PlainYamlError(f"cannot be read: {error.strerror}") from error
    if len(content) > max_bytes:
        raise PlainYamlError(f"is too long, expected at most {max_bytes} bytes")
    try:
        return yaml.load(content.decode("utf-8"), _Loader)
    except PlainYamlError:
        raise
    # PyYAML lets through what int(), datetime(), look-ups and deep nesting raise, as for `a: 2001-99-99` and `a: !!bool x`.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise PlainYamlError(f"is no YAML: {said[:200]}") from error
