"""Cityscapes: 19 scored classes, 2,975 images to train on, 500 to validate on.

root/leftImg8bit/train|val/CITY/NAME_leftImg8bit.png
root/gtFine/train|val/CITY/NAME_gtFine_labelIds.png        label ids 0 to 33, of which 19 are scored
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seg_models.data.image_files import read_mask
from seg_models.data.labels import shipped_label_table
from seg_models.data.layouts.samples import FolderDataError, PairedFiles, split_folder
from seg_models.losses import IGNORE

# Label ids of the scored classes, in the order of their train ids (cityscapesScripts, helpers/labels.py).
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
LARGEST_ID = 33
SPLITS = {"train": "train", "val": "val"}
LAYOUT = (
    "Cityscapes: leftImg8bit/train/CITY/NAME_leftImg8bit.png with gtFine/train/CITY/NAME_gtFine_labelIds.png, and val/"
)


def cityscapes(root: Path, split: str) -> PairedFiles:
    """The images of a split, with the fine masks.

    Raises:
        FolderDataError: it is not there as published.
    """
    folder = root / "leftImg8bit" / split_folder(split, SPLITS, LAYOUT)
    images = sorted(folder.glob("*/*_leftImg8bit.png"))
    if not images:
        raise FolderDataError(f"no images in {folder}; expected {LAYOUT}")
    pairs = []
    for image in images:
        name = image.stem.removesuffix("_leftImg8bit")
        pairs.append((image, root / "gtFine" / folder.name / image.parent.name / f"{name}_gtFine_labelIds.png"))
    ids = np.full(LARGEST_ID + 1, IGNORE, np.int16)
    ids[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))
    masks = (root / "gtFine" / folder.name, "*/*_gtFine_labelIds.png")
    return PairedFiles(shipped_label_table("cityscapes"), pairs, read_mask, ids, f"0..{LARGEST_ID}", LAYOUT, masks)
