"""Label tables: class names and colours from a `classes.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml


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


def read_label_table(path: str | Path) -> LabelTable:
    """Read a table: `classes: [{id, name, color: [r, g, b]}, …]`, optional `ignore_index` (255).

    Raises:
        LabelTableError: no such file, ids that are not 0..K-1 without gaps, or a colour outside 0..255.
    """
    path = Path(path)
    if not path.is_file():
        raise LabelTableError(f"no label table at {path}; expected a YAML file with a list `classes`")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not content.get("classes"):
        raise LabelTableError(f"{path} has no list `classes`; expected entries of id, name and color")
    classes = sorted(content["classes"], key=lambda entry: entry["id"])
    ids = [entry["id"] for entry in classes]
    if ids != list(range(len(ids))):
        raise LabelTableError(f"{path} has class ids {ids}; expected 0..{len(ids) - 1} without gaps")
    palette = tuple(tuple(int(v) for v in entry["color"]) for entry in classes)
    if any(len(colour) != 3 or min(colour) < 0 or max(colour) > 255 for colour in palette):
        raise LabelTableError(f"{path} has a colour that is not three values of 0..255")
    return LabelTable(
        tuple(str(entry["name"]) for entry in classes),
        palette,  # type: ignore[arg-type]
        int(content.get("ignore_index", 255)),
    )
