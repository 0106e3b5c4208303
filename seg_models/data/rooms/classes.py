"""The sixteen classes of the rooms data, and the table that the renderer's object index is read with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

IGNORE_INDEX = 255


class RoomClass(NamedTuple):
    """One class: its id in the label image, its name and its display colour (RGB, 0-255)."""

    id: int
    name: str
    color: tuple[int, int, int]


CLASSES = (
    RoomClass(0, "floor", (128, 96, 64)),
    RoomClass(1, "wall", (174, 199, 232)),
    RoomClass(2, "ceiling", (230, 230, 230)),
    RoomClass(3, "door", (214, 39, 40)),
    RoomClass(4, "window", (140, 200, 255)),
    RoomClass(5, "chair", (188, 189, 34)),
    RoomClass(6, "sofa", (255, 152, 150)),
    RoomClass(7, "table", (255, 187, 120)),
    RoomClass(8, "shelf", (148, 103, 189)),
    RoomClass(9, "cabinet", (196, 156, 148)),
    RoomClass(10, "lamp", (255, 230, 90)),
    RoomClass(11, "monitor", (23, 190, 207)),
    RoomClass(12, "appliance", (140, 140, 160)),
    RoomClass(13, "toilet", (120, 220, 180)),
    RoomClass(14, "rug", (44, 160, 44)),
    RoomClass(15, "object", (227, 119, 194)),
)
CLASS_IDS = {c.name: c.id for c in CLASSES}
STRUCTURE_IDS = (CLASS_IDS["floor"], CLASS_IDS["wall"], CLASS_IDS["ceiling"])


def object_index(class_name: str) -> int:
    """Object index that the renderer carries for a class: its id + 1, since 0 is what the renderer gives to "nothing".

    Raises:
        ValueError: the name is not one of the sixteen classes.
    """
    if class_name not in CLASS_IDS:
        raise ValueError(f"unknown class {class_name!r}; the rooms classes are: {', '.join(CLASS_IDS)}")
    return CLASS_IDS[class_name] + 1


def labels_from_object_index(index: np.ndarray) -> np.ndarray:
    """Class ids of an object-index pass.

    Args:
        index: float or integer array [H, W], 0 = nothing, k + 1 = class k.

    Returns:
        uint8 [H, W], `IGNORE_INDEX` where the renderer saw nothing.

    Raises:
        ValueError: an index that no class has (an object was placed without a class).
    """
    whole = np.rint(index).astype(np.int64)
    if whole.min() < 0 or whole.max() > len(CLASSES):
        raise ValueError(
            f"object index {int(whole.min())}..{int(whole.max())} in the render; expected 0..{len(CLASSES)}: "
            "every object must be given its class with object_index()"
        )
    return np.where(whole == 0, IGNORE_INDEX, whole - 1).astype(np.uint8)


def write_classes_yaml(path: Path) -> None:
    """Write the class table in the layout of the project's label files (`ignore_index`, `classes`)."""
    lines = [f"ignore_index: {IGNORE_INDEX}", "classes:"]
    lines += [f"  - {{id: {c.id}, name: {c.name}, color: {list(c.color)}}}" for c in CLASSES]
    path.write_text("\n".join(lines) + "\n")
