"""Label tables: class names and colours from a `classes.yaml`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_models.messages import shown
from seg_models.yaml_file import YamlError, read_yaml

MAX_CLASSES = 255  # masks have a byte a pixel, and 255 says that there is no label


class LabelTableError(ValueError):
    """A classes.yaml that is missing or does not describe classes 0..K-1."""


@dataclass(frozen=True)
class LabelTable:
    """Names and colours of classes 0..K-1.

    Attributes:
        names: K names.
        palette: K colours, (r, g, b) in 0..255.
        ignore_index: value of pixels without a label.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int = 255


def label_table(names: Any, palette: Any, ignore_index: Any = 255) -> LabelTable:
    """A table from plain values of a file, checked.

    Args:
        names: K printable names, 1 to MAX_CLASSES.
        palette: K colours, each three integers in 0..255.
        ignore_index: in 0..255.

    Raises:
        LabelTableError: anything else.
    """
    if not isinstance(names, list | tuple) or not 0 < len(names) <= MAX_CLASSES:
        raise LabelTableError(f"the class names are {shown(names)}; expected 1 to {MAX_CLASSES}")
    for name in names:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise LabelTableError(f"a class is named {shown(name)}; expected printable text")
    if not isinstance(palette, list | tuple) or len(palette) != len(names):
        raise LabelTableError(f"the palette is {shown(palette)}; expected {len(names)} colours, one a class")
    for colour in palette:
        if not isinstance(colour, list | tuple) or len(colour) != 3 or not all(map(_is_byte, colour)):
            raise LabelTableError(f"a colour is {shown(colour)}; expected [r, g, b], three values of 0..255")
    if not _is_byte(ignore_index):
        raise LabelTableError(f"ignore_index is {shown(ignore_index)}; expected an integer in 0..255")
    return LabelTable(tuple(names), tuple(tuple(colour) for colour in palette), ignore_index)  # type: ignore[misc]


def read_label_table(path: str | Path) -> LabelTable:
    """Read a table: `classes: [{id, name, color: [r, g, b]}, …]`, optional `ignore_index` (255).

    Raises:
        LabelTableError: no such file, no YAML, ids that are not 0..K-1 without gaps, or anything that `label_table` refuses.
    """
    path = Path(path)
    if not path.is_file():
        raise LabelTableError(f"no label table at {path}; expected a YAML file with a list `classes`")
    try:
        content = read_yaml(path)
    except YamlError as error:
        raise LabelTableError(str(error)) from error
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list) or not content["classes"]:
        raise LabelTableError(f"{path} has no list `classes`; expected entries of id, name and color")
    for entry in content["classes"]:
        if not isinstance(entry, dict) or not {"id", "name", "color"} <= entry.keys() or type(entry["id"]) is not int:
            raise LabelTableError(f"{path} has the class {shown(entry)}; expected an id, a number, a name and a color")
    classes = sorted(content["classes"], key=lambda entry: entry["id"])
    ids = [entry["id"] for entry in classes]
    if ids != list(range(len(ids))):
        raise LabelTableError(f"{path} has class ids {shown(ids)}; expected 0..{len(ids) - 1} without gaps")
    try:
        return label_table(
            [str(entry["name"]) for entry in classes],  # YAML reads some names, such as 7 or no, as something else
            [entry["color"] for entry in classes],
            content.get("ignore_index", 255),
        )
    except LabelTableError as error:
        raise LabelTableError(f"{path}: {error}") from error


def shipped_label_table(name: str) -> LabelTable:
    """A table of config/labels, such as "camvid": in the source checkout, else where the installed package put it.

    Raises:
        LabelTableError: it is at neither place.
    """
    package = Path(__file__).resolve().parents[2]
    folders = [package, *(parent / "share/seg_perception" for parent in (*package.parents, Path(sys.prefix)))]
    paths = [folder / "config/labels" / f"{name}.yaml" for folder in folders]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise LabelTableError(f"no config/labels/{name}.yaml in this installation; looked at {paths[0]}, {paths[-1]}")
    return read_label_table(found)


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255
