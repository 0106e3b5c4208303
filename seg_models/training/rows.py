"""Rows of the papers' tables as recipes: a file a paper in `config/recipes/rows/`, each row what differs from something else.

    paper: Segmenter
    commands: [{place: Table 1, shows: parameters, run: seg_models.summary --only Seg-}]
    rows:
      B: {extends: ../segmenter_ade20k_vit_l16.yaml, model.backbone: vit_base_patch16_384}
      T11 CNN: {extends: B, model.options.decoder: cnn, printed: 47.51}

`extends` names a recipe beside the file, or rows of it, one or several that are applied in order. Every other key is a field
of a recipe, written as an override is. `printed` is the paper's figure (single scale/multi-scale where both are printed):
rows without it are parts of others and not for training. `start` names the pretrained file where it is not the backbone's.
"""

from __future__ import annotations

import copy
import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seg_models.messages import shown
from seg_models.training.fields import RecipeError
from seg_models.yaml_file import YamlError, read_yaml

KEPT = ("extends", "printed", "start")  # keys of a row that are no fields of a recipe
DEEPEST = 8  # rows that extend rows that extend rows


@dataclass(frozen=True)
class Rows:
    """A file of rows.

    Attributes:
        path: where it lies.
        paper: whose rows they are.
        rows: of each row's name what it says.
        commands: what else the paper shows, and the command for it; see `seg_models/papers/page.py`.
    """

    path: Path
    paper: str
    rows: dict[str, dict[str, Any]]
    commands: list[dict[str, str]] = field(default_factory=list)
    read: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)  # recipes, each read once

    @property
    def printed(self) -> list[str]:
        """Names of the rows that are for training, in order."""
        return [name for name, row in self.rows.items() if "printed" in row]

    def content(self, name: str) -> dict[str, Any]:
        """A row as the content of a recipe, its name made of the file's and the row's.

        Raises:
            RecipeError: no such row (near ones are listed), one without a recipe below it, or that extends itself.
        """
        if name not in self.printed:
            near = difflib.get_close_matches(name, self.printed, n=3, cutoff=0.3) or self.printed[:3]
            part = "; it is a part of others" if name in self.rows else ""
            raise RecipeError(f"{self.path} has no row {shown(name)}{part}; near ones: {', '.join(near)}")
        content: dict[str, Any] = {}
        self._apply(name, content, 0)
        if "model" not in content:
            raise RecipeError(f"{self.path}: row {shown(name)} extends no recipe")
        content["name"] = f"{self.path.stem}_{re.sub(r'[^A-Za-z0-9+]+', '-', name).strip('-')}"
        return content

    def _apply(self, name: str, content: dict[str, Any], depth: int) -> None:
        """Write what a row says over the content, after what it extends."""
        if depth > DEEPEST:
            raise RecipeError(f"{self.path}: row {shown(name)} extends rows more than {DEEPEST} deep, or itself")
        row = self.rows.get(name)
        if row is None:
            raise RecipeError(f"{self.path} has no row {shown(name)}, which another one extends")
        below = row.get("extends", [])
        for other in below if isinstance(below, list) else [below]:
            if not isinstance(other, str):
                raise RecipeError(f"{self.path}: row {shown(name)} extends {shown(other)}; expected a row or a recipe")
            if other.endswith(".yaml"):
                content.clear()
                if other not in self.read:
                    self.read[other] = _mapping(self.path.parent / other)
                content.update(copy.deepcopy(self.read[other]))
            else:
                self._apply(other, content, depth + 1)
        for key, value in row.items():
            if key not in KEPT:
                write_field(content, key, copy.deepcopy(value))


def read_rows(path: Path) -> Rows:
    """A file of rows.

    Raises:
        RecipeError: no such file, one without rows, or rows that are no mappings; names the file.
    """
    content = _mapping(path)
    rows = content.get("rows")
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise RecipeError(f"{path} holds no rows; expected a file of config/recipes/rows/, or no --row")
    named = {str(name): row for name, row in rows.items()}
    return Rows(path, str(content.get("paper", path.stem)), named, content.get("commands", []))


def write_field(content: dict[Any, Any], key: str, value: Any) -> None:
    """Write `value` where a dotted key leads into nested mappings; mappings on the way that are missing are made.

    Raises:
        RecipeError: the key leads through something that is no mapping.
    """
    *parents, leaf = key.split(".")
    node = content
    for parent in parents:
        inner = node.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"{shown(key)} looks for fields in {parent}, which is {shown(inner)}")
        node = inner
    node[leaf] = value


def _mapping(path: Path) -> dict[str, Any]:
    """The content of a YAML file that holds a mapping."""
    if not path.is_file():
        raise RecipeError(f"no recipe at {path}")
    try:
        content = read_yaml(path)
    except YamlError as error:
        raise RecipeError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} holds {type(content).__name__}; expected a mapping")
    return content
