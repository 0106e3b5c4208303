"""COCO-Stuff in its two releases, 171 classes each (Caesar et al., 2018).

10K: 9,000 images to train on, 1,000 to test on (the papers' validation)
  root/images/NAME.jpg
  root/annotations/NAME.mat                        S: 0 where not labelled, 1 to 182
  root/imageLists/train.txt  test.txt

164K: 118,287 and 5,000
  root/images/train2017|val2017/NAME.jpg           or root/train2017/, as COCO's archives unpack
  root/annotations/train2017|val2017/NAME.png      or root/stuffthingmaps/train2017/; 0 to 181, 255 where not labelled

Eleven of the 182 categories occur in no image and are left out: the 80 things and 91 kinds of stuff remain.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from seg_models.data.image_files import read_mask
from seg_models.data.labels import shipped_label_table
from seg_models.data.layouts.matlab_masks import read_matlab_mask
from seg_models.data.layouts.samples import REFUSED, PairedFiles, images_in, names_in, split_folder
from seg_models.losses import IGNORE

CATEGORIES = 182
# street sign, hat, shoe, eye glasses, plate, mirror, window, desk, door, blender, hair brush (labels.txt, from 1).
UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
LAYOUT_10K = "cocostuff-10k-v1.1: images/NAME.jpg, annotations/NAME.mat, imageLists/train.txt and test.txt"
LAYOUT_164K = (
    "images/train2017/NAME.jpg and val2017/ of COCO 2017, with annotations/train2017/NAME.png and val2017/ of "
    "stuffthingmaps_trainval2017"
)


def class_ids_from(first: int) -> np.ndarray:
    """Table of ids for masks that count the 182 categories from `first` on: int16 (256,); the unused ones are refused."""
    ids = np.full(256, REFUSED, np.int16)
    used = [category for category in range(1, CATEGORIES + 1) if category not in UNUSED]
    ids[np.array(used) - 1 + first] = np.arange(len(used))
    ids[0 if first == 1 else 255] = IGNORE
    return ids


def coco_stuff_10k(root: Path, split: str) -> PairedFiles:
    """The images of a split; "val" is the published test list.

    Raises:
        FolderDataError: it is not there as published.
    """
    name = split_folder(split, {"train": "train", "val": "test"}, LAYOUT_10K)
    listed = root / "imageLists" / f"{name}.txt"
    names = names_in(listed, LAYOUT_10K)
    pairs = [(root / "images" / f"{name}.jpg", root / "annotations" / f"{name}.mat") for name in names]
    read = partial(read_matlab_mask, variable="S")
    expected = "0 for none, 1..182"
    table = shipped_label_table("coco_stuff")
    return PairedFiles(table, pairs, read, class_ids_from(1), expected, LAYOUT_10K, listed=listed)


def coco_stuff_164k(root: Path, split: str) -> PairedFiles:
    """The images of a split.

    Raises:
        FolderDataError: it is not there as published.
    """
    name = split_folder(split, {"train": "train2017", "val": "val2017"}, LAYOUT_164K)
    images = images_in(root / "images" / name if (root / "images").is_dir() else root / name, LAYOUT_164K)
    masks = root / "annotations" / name
    if not masks.is_dir():
        masks = root / "stuffthingmaps" / name
    pairs = [(image, masks / f"{image.stem}.png") for image in images]
    expected = "0..181, 255 for none"
    table = shipped_label_table("coco_stuff")
    return PairedFiles(table, pairs, read_mask, class_ids_from(0), expected, LAYOUT_164K, (masks, "*.png"))
