"""From nested plain values to dataclasses, each value checked by its field's annotation.

    batch_size: Annotated[int, Range(1, 65_536)] = 8

Whatever the annotation says: numbers are finite, integers and texts of a size that a person writes. Errors name the field.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import types
import typing
from dataclasses import dataclass
from typing import Any

from seg_models.messages import one_line, shown

LARGEST_INTEGER = 10**10
LONGEST_TEXT = 4_000
MOST_ITEMS = 1_000
# Of values that any constructor may get, as depths and widths are: such a number is always a mistake, or worse.
LARGEST_OPTION = 100_000
DEEPEST_OPTION = 6


class RecipeError(ValueError):
    """A recipe file or override that is missing, unknown, of the wrong type or out of range."""


@dataclass(frozen=True)
class Range:
    """Of a number: least <= value <= most."""

    least: float
    most: float

    def check(self, value: Any, where: str) -> None:
        """Raise RecipeError for a value outside."""
        if not self.least <= value <= self.most:
            raise RecipeError(f"{where} is {shown(value)}; expected {self.least:,} to {self.most:,}")


@dataclass(frozen=True)
class Length:
    """Of a list or text: how many items or letters it has."""

    least: int
    most: int

    def check(self, value: Any, where: str) -> None:
        """Raise RecipeError for a shorter or longer one."""
        if not self.least <= len(value) <= self.most:
            expected = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most:,}"
            raise RecipeError(f"{where} is {shown(value)}, {len(value)} long; expected {expected}")


@dataclass(frozen=True)
class OneOf:
    """Of a text: the values that are known."""

    known: tuple[str, ...]

    def check(self, value: Any, where: str) -> None:
        """Raise RecipeError for another one."""
        if value not in self.known:
            raise RecipeError(f"{where} is {shown(value)}; expected one of {', '.join(self.known)}")


class FileName:
    """Of a text: a name that a folder can have."""

    def check(self, value: Any, where: str) -> None:
        """Raise RecipeError for an empty name, or one that leads elsewhere."""
        if not value or value.startswith(".") or "/" in value or "\\" in value or len(value) > 200:
            raise RecipeError(f"{where} is {shown(value)}; expected the name of a folder, without / and a dot in front")


def construct(kind: type, content: Any, where: str) -> Any:
    """A dataclass from a mapping of its fields.

    Raises:
        RecipeError: no mapping, a key that is no field (near ones are listed), or a value that its annotation refuses.
    """
    if not isinstance(content, dict):
        raise RecipeError(f"{where} is {shown(content)}; expected a mapping")
    hints = typing.get_type_hints(kind, include_extras=True)
    values = {}
    for key, value in content.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key)[:80], hints, n=2) or sorted(hints)
            raise RecipeError(f"{where} has no field {shown(key)}; did you mean: {', '.join(near)}?")
        values[key] = convert(hints[key], value, f"{where}.{key}")
    return kind(**values)


def convert(kind: Any, value: Any, where: str) -> Any:
    """A value of the type that an annotation names.

    Raises:
        RecipeError: another type, or outside what `Annotated` says.
    """
    if typing.get_origin(kind) is typing.Annotated:
        kind, *conditions = typing.get_args(kind)
        converted = convert(kind, value, where)
        for condition in conditions:
            condition.check(converted, where)
        return converted
    if dataclasses.is_dataclass(kind):
        return construct(kind, value, where)  # type: ignore[arg-type]
    if kind is Any:
        return _option(value, where)
    origin = typing.get_origin(kind)
    if origin in (list, dict) and isinstance(value, origin) and len(value) > MOST_ITEMS:
        raise RecipeError(f"{where} has {len(value):,} entries; expected at most {MOST_ITEMS:,}")
    if origin is list and isinstance(value, list):
        (item,) = typing.get_args(kind)
        return [convert(item, v, f"{where}[{i}]") for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        _, item = typing.get_args(kind)
        return {str(k): convert(item, v, f"{where}.{one_line(k, 80)}") for k, v in value.items()}
    if kind is float and isinstance(value, str | int) and not isinstance(value, bool):
        # YAML reads 1e-3 as a string; the recipe means the number.
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)
    plain = origin or kind
    wrong_bool = isinstance(value, bool) and plain is not bool
    if (
        isinstance(plain, type)
        and not isinstance(plain, types.UnionType)
        and isinstance(value, plain)
        and not wrong_bool
    ):
        _check_plain(value, where)
        return value
    raise RecipeError(f"{where} is {shown(value)}; expected {getattr(kind, '__name__', kind)}")


def _check_plain(value: Any, where: str, largest: int = LARGEST_INTEGER) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{where} is {value}; expected a finite number")
    if isinstance(value, int | float) and abs(value) > largest:
        raise RecipeError(f"{where} is {shown(value)}; expected at most {largest:,}")
    if isinstance(value, str) and (len(value) > LONGEST_TEXT or not value.isprintable()):
        raise RecipeError(f"{where} is {shown(value)}; expected one line of printable text")


def _option(value: Any, where: str, depth: int = 0) -> Any:
    """The value of a free option, if it is plain: numbers, texts, and lists and mappings of them."""
    if isinstance(value, list | tuple | dict):
        if depth == DEEPEST_OPTION or len(value) > MOST_ITEMS:
            raise RecipeError(
                f"{where} is {shown(value)}; expected a short list or mapping, {DEEPEST_OPTION} deep at most"
            )
        if isinstance(value, dict):
            for key, inner in value.items():
                _option(inner, f"{where}.{one_line(key, 80)}", depth + 1)
        else:
            for index, inner in enumerate(value):
                _option(inner, f"{where}[{index}]", depth + 1)
        return value
    if value is not None and not isinstance(value, bool | int | float | str):
        raise RecipeError(f"{where} is {shown(value)}; expected a number, a text, a list or a mapping")
    _check_plain(value, where, LARGEST_OPTION)
    return value
