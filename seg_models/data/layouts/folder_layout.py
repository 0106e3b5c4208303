"""The project's own form: any folder of images with masks, and a file that names the classes.

root/classes.yaml
root/images/<split>/<name>.jpg|.jpeg|.png       RGB
root/labels/<split>/<name>.png                  class ids, ignore_index where not labelled; or colours
"""

from __future__ import annotations

from pathlib import Path

from seg_models.data.image_files import read_mask
from seg_models.data.labels import read_label_table
from seg_models.data.layouts.samples import FolderDataError, PairedFiles, classes_from_zero, images_in

LAYOUT = "classes.yaml, images/SPLIT/NAME.jpg or .png and labels/SPLIT/NAME.png"


def folder(root: Path, split: str) -> PairedFiles:
    """The images of a split.

    Raises:
        FolderDataError: no such split, no images in it, or images without masks.
        LabelTableError: no classes.yaml, or a wrong one.
    """
    table = read_label_table(root / "classes.yaml")
    images = root / "images" / split
    if not images.is_dir():
        splits = sorted(path.name for path in (root / "images").glob("*") if path.is_dir())
        raise FolderDataError(f"{root} has no split {split!r}; it has: {', '.join(splits) or 'none'}; expected {LAYOUT}")
    pairs = [(image, root / "labels" / split / f"{image.stem}.png") for image in images_in(images, LAYOUT)]
    expected = f"0..{len(table.names) - 1} or {table.ignore_index}"
    return PairedFiles(table, pairs, read_mask, classes_from_zero(table), expected)
