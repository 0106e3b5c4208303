"""A robot's own classes out of a model's: merged, renamed, left out, with thresholds and a foreground; one table look-up.

    classes:                          # what the robot calls it: what the model calls it
      ground: [floor, rug]
      wall: wall
      furniture: {of: [chair, sofa, table], color: [255, 180, 60], confidence: 0.6}
    foreground: [furniture]           # classes that ~/foreground shows
    confidence_threshold: 0.3         # of every class that has none of its own

Classes of the model that are not named become "not labelled", 255.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seg_perception.model.model_file import MAX_CLASSES, UNLABELLED
from seg_perception.plain_yaml import PlainYamlError, read_plain_yaml

MAX_FILE_BYTES = 256 << 10  # MAX_CLASSES classes of long names several times
KEYS = ("classes", "foreground", "confidence_threshold")
CLASS_KEYS = ("of", "color", "confidence")


class ClassMapError(ValueError):
    """A classes file that cannot be used. The message is one line: what came, what was expected."""


@dataclass(frozen=True)
class ClassMap:
    """What becomes of a model's classes.

    Attributes:
        names: of the robot's classes, in the order of their ids.
        palette: uint8 [K, 3], RGB, of the robot's classes.
        table: uint8 [256], the robot's id of each of the model's; 255 for classes that are left out.
        thresholds: uint8 [256], the least confidence x 255 that a pixel of each of the model's classes needs.
        settled: bool [256], of the model's classes: whether the file itself says the threshold, or the class is left out.
        foreground: uint8 [256], by the robot's id: 255 for classes of the foreground, else 0.
    """

    names: tuple[str, ...]
    palette: np.ndarray
    table: np.ndarray
    thresholds: np.ndarray
    settled: np.ndarray
    foreground: np.ndarray

    def with_confidence_threshold(self, confidence_threshold: float) -> ClassMap:
        """The same with another threshold, 0..1, wherever the file does not say it."""
        return replace(
            self, thresholds=np.where(self.settled, self.thresholds, np.uint8(round(255 * confidence_threshold)))
        )

    @property
    def has_thresholds(self) -> bool:
        """Whether `apply` needs the confidence."""
        return bool(self.thresholds.any())

    @property
    def changes_ids(self) -> bool:
        """Whether any of the robot's classes has another id than the model's."""
        identity = np.full(256, UNLABELLED, np.uint8)
        identity[: len(self.names)] = np.arange(len(self.names))
        return not np.array_equal(self.table, identity)

    def apply(self, labels: np.ndarray, confidence: np.ndarray | None) -> np.ndarray:
        """The robot's labels.

        Args:
            labels: uint8 [H, W], the model's; 255 stays 255.
            confidence: uint8 [H, W]; may be None where there are no thresholds.

        Returns:
            uint8 [H, W]; `labels` itself where nothing changes.

        Raises:
            ValueError: thresholds without a confidence.
        """
        own = cv2.LUT(labels, self.table) if self.changes_ids else labels
        if not self.has_thresholds:
            return own
        if confidence is None:
            raise ValueError("a confidence threshold needs the confidence; ask for it")
        unsure = cv2.compare(confidence, cv2.LUT(labels, self.thresholds), cv2.CMP_LT)  # 255 where unsure
        return cv2.bitwise_or(own, unsure)  # 255 is "not labelled"

    def foreground_of(self, labels: np.ndarray) -> np.ndarray:
        """255 where a pixel's class is of the foreground, else 0: uint8 [H, W], of the robot's labels."""
        return cv2.LUT(labels, self.foreground)


def unchanged(
    names: Sequence[str], palette: np.ndarray, confidence_threshold: float = 0.0, foreground: Sequence[str] = ()
) -> ClassMap:
    """The model's own classes.

    Args:
        names, palette: of the model.
        confidence_threshold: 0..1, of all classes.
        foreground: names of classes.

    Raises:
        ClassMapError: a threshold outside 0..1, or a name that is no class.
    """
    content = {
        "classes": {name: {"of": [name]} for name in names},
        "foreground": list(foreground),
    }
    return _class_map(content, names, palette, confidence_threshold, "the parameters")


def read_class_map(
    path: str | Path,
    names: Sequence[str],
    palette: np.ndarray,
    confidence_threshold: float = 0.0,
    foreground: Sequence[str] = (),
) -> ClassMap:
    """Read a classes file for a model.

    Args:
        path: YAML, see above.
        names: of the model's classes.
        palette: uint8 [K, 3], RGB, of the model's classes. A class of the robot has the colour of the first it is made of,
            unless the file gives one.
        confidence_threshold, foreground: hold where the file says nothing of them.

    Raises:
        ClassMapError: no such file, no YAML of that form, a name that the model does not have or that is used twice.
    """
    path = Path(path)
    where = f"classes file {path}"
    try:
        content = read_plain_yaml(path, MAX_FILE_BYTES)
    except PlainYamlError as error:
        raise ClassMapError(f"{where} {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("classes"), dict):
        raise ClassMapError(f"{where} is not of the form `classes: {{ground: [floor, rug], ...}}`")
    return _class_map({"foreground": list(foreground), **content}, names, palette, confidence_threshold, where)


def _class_map(
    content: dict[Any, Any], names: Sequence[str], palette: np.ndarray, default_threshold: float, where: str
) -> ClassMap:
    for key in content:
        if key not in KEYS:
            raise ClassMapError(f"{where} has a key {_shown(key)}; expected {', '.join(KEYS)}")
    classes = content["classes"]
    if not 1 <= len(classes) <= MAX_CLASSES:
        raise ClassMapError(f"{where} has {len(classes)} classes; expected 1 to {MAX_CLASSES}")
    table = np.full(256, UNLABELLED, np.uint8)
    thresholds = np.zeros(256, np.uint8)
    colours = np.zeros((len(classes), 3), np.uint8)
    settled = np.ones(256, bool)
    everywhere = _confidence(content.get("confidence_threshold", default_threshold), f"{where}: confidence_threshold")
    own_names = []
    for own_id, (own_name, value) in enumerate(classes.items()):
        if not isinstance(own_name, str) or not own_name:
            raise ClassMapError(f"{where} names a class {_shown(own_name)}; expected a text (put it in quotes)")
        own_names.append(own_name)
        settings = value if isinstance(value, dict) else {"of": value}
        for key in settings:
            if key not in CLASS_KEYS:
                raise ClassMapError(
                    f"{where}: class {own_name!r} has a key {_shown(key)}; expected {', '.join(CLASS_KEYS)}"
                )
        parts = _names(settings.get("of"), names, f"{where}: class {own_name!r}")
        if not parts:
            raise ClassMapError(
                f"{where}: class {own_name!r} is made of nothing; expected names of the model's classes"
            )
        threshold = everywhere
        if "confidence" in settings:
            threshold = _confidence(settings["confidence"], f"{where}: class {own_name!r}: confidence")
        for part in parts:
            if table[part] != UNLABELLED:
                raise ClassMapError(
                    f"{where}: {names[part]!r} is in both {own_names[table[part]]!r} and {own_name!r}; expected one"
                )
            table[part] = own_id
            thresholds[part] = threshold
            settled[part] = "confidence" in settings or "confidence_threshold" in content
        colours[own_id] = palette[parts[0]]
        if "color" in settings:
            colours[own_id] = _colour(settings["color"], f"{where}: class {own_name!r}")
    foreground = np.zeros(256, np.uint8)
    foreground[_names(content["foreground"], own_names, f"{where}: foreground")] = 255
    return ClassMap(tuple(own_names), colours, table, thresholds, settled, foreground)


def _names(value: Any, known: Sequence[str], where: str) -> list[int]:
    """Indices of one name or a list of them among `known`."""
    wanted = [value] if isinstance(value, str) else value
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise ClassMapError(f"{where} is {_shown(value)}; expected a name or a list of names")
    indices = []
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or list(known)[:8]
            raise ClassMapError(f"{where} names {_shown(name)}, which is no class; near names: {', '.join(near)}")
        indices.append(list(known).index(name))
    return indices


def _confidence(value: Any, where: str) -> int:
    """A probability as the least confidence x 255."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ClassMapError(f"{where} is {_shown(value)}; expected a number from 0 to 1")
    return round(255 * value)


def _colour(value: Any, where: str) -> list[int]:
    is_colour = isinstance(value, list) and len(value) == 3
    if not is_colour or not all(type(part) is int and 0 <= part <= 255 for part in value):
        raise ClassMapError(f"{where} has the color {_shown(value)}; expected [r, g, b] with values 0 to 255")
    return list(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
