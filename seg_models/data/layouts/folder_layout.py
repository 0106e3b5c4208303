"""The project's own form: any folder of images with masks, and a file that names the classes.

root/classes.yaml
root/images/<split>/<name>.jpg|.jpeg|.png       RGB
root/labels/<split>/<name>.png                  class ids, ignore_index where not labelled; or colours

classes.yaml may say that things lie otherwise:

    images: "{split}/rgb"  labels: "{split}/seg"  mask_name: "{name}_mask.png"
    masks: color           each mask's pixel has the colour of its class; unlabelled_color: [0, 0, 0] is that of none
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seg_models.data.image_files import ImageFileError, read_image, read_mask
from seg_models.data.labels import LabelTable, read_label_table
from seg_models.data.layouts.samples import FolderDataError, PairedFiles, classes_from_zero, images_in
from seg_models.messages import shown
from seg_models.yaml_file import read_yaml

LAYOUT = "classes.yaml, images/SPLIT/NAME.jpg or .png and labels/SPLIT/NAME.png"
PLACES = {"images": "images/{split}", "labels": "labels/{split}", "mask_name": "{name}.png"}
MASKS = ("index", "color")


def folder(root: Path, split: str) -> PairedFiles:
    """The images of a split.

    Raises:
        FolderDataError: no such split, no images in it, images without masks, or a classes.yaml that describes no masks.
        LabelTableError: no classes.yaml, or a wrong one.
    """
    path = root / "classes.yaml"
    table, content = read_label_table(path), read_yaml(path)
    places = _places(path, content)
    images = root / places["images"].replace("{split}", split)
    if not images.is_dir():
        splits = ", ".join(_splits(root, places)) or "none"
        raise FolderDataError(f"{root} has no split {split!r}; it has: {splits}; expected {LAYOUT}")
    labels = root / places["labels"].replace("{split}", split)
    pairs = [(image, labels / places["mask_name"].replace("{name}", image.stem)) for image in images_in(images, LAYOUT)]
    pairs = [(image, mask) for image, mask in pairs if not (mask.parent == image.parent and _is_mask(image, places))]
    expected = f"0..{len(table.names) - 1} or {table.ignore_index}"
    read: Callable[[Path], np.ndarray] = read_mask
    if content.get("masks", "index") == "color":
        read = partial(read_colour_mask, table=table, unlabelled=_unlabelled(path, content, table))
    elif content.get("masks", "index") not in MASKS:
        raise FolderDataError(f"{path} has masks: {shown(content['masks'])}; expected {' or '.join(MASKS)}")
    masks = (labels, places["mask_name"].replace("{name}", "*"))
    return PairedFiles(table, pairs, read, classes_from_zero(table), expected, LAYOUT, masks)


def folder_splits(root: Path) -> list[str]:
    """The splits that are there.

    Raises:
        FolderDataError: none is.
        LabelTableError: no classes.yaml, or a wrong one.
    """
    path = root / "classes.yaml"
    read_label_table(path)
    splits = _splits(root, _places(path, read_yaml(path)))
    if not splits:
        raise FolderDataError(f"{root} has no split; expected {LAYOUT}")
    return splits


def read_colour_mask(path: Path, table: LabelTable, unlabelled: tuple[int, int, int] | None) -> np.ndarray:
    """Class ids uint8 (H, W) of a mask in the classes' colours, also one with a palette; `ignore_index` for `unlabelled`.

    Raises:
        ImageFileError: it cannot be read, is a JPEG, or has a colour of no class; names the first and its place.
    """
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise ImageFileError(f"{path} is a JPEG, which changes colours; expected a PNG")
    colours = [*table.palette, *([unlabelled] if unlabelled else [])]
    ids = np.array([*range(len(table.palette)), *([table.ignore_index] if unlabelled else [])], np.uint8)
    codes = np.array(colours) @ (1 << 16, 1 << 8, 1)
    order = np.argsort(codes)
    pixels = read_image(path).astype(np.int64) @ (1 << 16, 1 << 8, 1)  # (H, W)
    place = np.minimum(np.searchsorted(codes[order], pixels), len(codes) - 1)
    wrong = codes[order][place] != pixels
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        colour = [int(pixels[y, x]) >> shift & 255 for shift in (16, 8, 0)]
        raise ImageFileError(f"{path} has the colour {colour} at x {x}, y {y}, which is of no class in classes.yaml")
    return ids[order][place]


def _places(path: Path, content: Any) -> dict[str, str]:
    return {key: _place(path, key, content.get(key, place)) for key, place in PLACES.items()}


def _splits(root: Path, places: dict[str, str]) -> list[str]:
    """Names that make a folder of images when they stand for {split}."""
    before, _, behind = places["images"].partition("{split}")
    start = root / before
    folder, prefix = (start, "") if before.endswith("/") or not before else (start.parent, start.name)
    names = (path.name.removeprefix(prefix) for path in folder.glob(f"{prefix}*") if path.is_dir())
    behind_name = behind.partition("/")[0]
    found = (name.removesuffix(behind_name) for name in names if name.endswith(behind_name))
    return sorted(name for name in found if name and (root / f"{before}{name}{behind}").is_dir())


def _place(path: Path, key: str, value: Any) -> str:
    if not isinstance(value, str) or value.startswith("/") or ".." in value.split("/"):
        raise FolderDataError(
            f"{path} has {key}: {shown(value)}; expected a path in the folder, such as {PLACES[key]!r}"
        )
    needed = "{name}" if key == "mask_name" else "{split}"
    if needed not in value:
        raise FolderDataError(f"{path} has {key}: {shown(value)}; expected {needed} in it, as in {PLACES[key]!r}")
    return value


def _is_mask(image: Path, places: dict[str, str]) -> bool:
    """Whether a file of a folder that holds both is a mask, by its name."""
    start, _, end = places["mask_name"].partition("{name}")
    return image.name.startswith(start) and image.name.endswith(end)


def _unlabelled(path: Path, content: Any, table: LabelTable) -> tuple[int, int, int] | None:
    colour = content.get("unlabelled_color")
    if len(set(table.palette)) != len(table.palette):
        raise FolderDataError(f"{path} gives two classes one colour; with masks: color each needs its own")
    if colour is None:
        return None
    if not isinstance(colour, list) or len(colour) != 3 or not all(type(v) is int and 0 <= v <= 255 for v in colour):
        raise FolderDataError(f"{path} has unlabelled_color: {shown(colour)}; expected [r, g, b], three of 0..255")
    if tuple(colour) in table.palette:
        raise FolderDataError(f"{path} has unlabelled_color: {colour}, which is the colour of a class")
    return colour[0], colour[1], colour[2]
