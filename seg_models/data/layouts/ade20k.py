"""ADE20K's scene parsing benchmark, ADEChallengeData2016: 150 classes, 20,210 images to train on, 2,000 to validate on.

root/images/training|validation/NAME.jpg
root/annotations/training|validation/NAME.png      0 for everything else, 1 to 150 for the classes
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seg_models.data.image_files import read_mask
from seg_models.data.labels import shipped_label_table
from seg_models.data.layouts.samples import PairedFiles, images_in, split_folder
from seg_models.losses import IGNORE

CLASSES = 150
SPLITS = {"train": "training", "val": "validation"}
LAYOUT = (
    "ADEChallengeData2016: images/training/NAME.jpg with annotations/training/NAME.png, and validation beside training"
)


def ade20k(root: Path, split: str) -> PairedFiles:
    """The images of a split.

    Raises:
        FolderDataError: it is not there as published.
    """
    folder = split_folder(split, SPLITS, LAYOUT)
    images = images_in(root / "images" / folder, LAYOUT)
    pairs = [(image, root / "annotations" / folder / f"{image.stem}.png") for image in images]
    ids = np.array([IGNORE, *range(CLASSES)], np.int16)
    masks = (root / "annotations" / folder, "*.png")
    return PairedFiles(shipped_label_table("ade20k"), pairs, read_mask, ids, "0 for none, 1..150", LAYOUT, masks)
