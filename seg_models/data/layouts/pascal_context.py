"""Pascal Context: 59 classes, or 60 with the background; 4,998 images to train on, 5,105 to validate on.

root/JPEGImages/NAME.jpg                            VOC2010
root/ImageSets/Main/train.txt  val.txt              VOC2010; or ImageSets/SegmentationContext/, as mmsegmentation makes it
root/trainval/NAME.mat                              Mottaghi et al., 2014: LabelMap, 459 categories from 1 on
root/SegmentationClassContext/NAME.png              or, where mmsegmentation's converter made them: 0 background, 1 to 59
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from seg_models.data.image_files import read_mask
from seg_models.data.labels import shipped_label_table
from seg_models.data.layouts.matlab_masks import read_matlab_mask
from seg_models.data.layouts.samples import FolderDataError, PairedFiles, names_in, split_folder
from seg_models.losses import IGNORE

CATEGORIES = 459
# Of the 459 (labels.txt beside the masks), those that are scored: in the order of their names, as all authors count them.
SCORED = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98),
    *(104, 105, 113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308),
    *(324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458),
)
SPLITS = {"train": "train", "val": "val"}
LAYOUT = (
    "VOC2010 with Pascal Context in it: JPEGImages/NAME.jpg, ImageSets/Main/train.txt and val.txt, trainval/NAME.mat "
    "(or SegmentationClassContext/NAME.png)"
)


def pascal_context(root: Path, split: str, classes: int) -> PairedFiles:
    """The images of a split.

    Args:
        root: VOC2010, with the masks in it.
        split: "train" or "val".
        classes: 59, everything else without a label; or 60, everything else as the first class.

    Raises:
        FolderDataError: it is not there as published.
    """
    name = split_folder(split, SPLITS, LAYOUT)
    lists = [root / "ImageSets" / folder / f"{name}.txt" for folder in ("SegmentationContext", "Main")]
    listed = next((path for path in lists if path.is_file()), lists[1])
    names = names_in(listed, LAYOUT)
    first = 0 if classes == 59 else 1  # id of aeroplane
    background = IGNORE if classes == 59 else 0
    matlab, pictures = root / "trainval", root / "SegmentationClassContext"
    table = shipped_label_table(f"pascal_context_{classes}")
    images = [root / "JPEGImages" / f"{name}.jpg" for name in names]
    if matlab.is_dir():
        ids = np.full(CATEGORIES + 1, background, np.int16)
        ids[list(SCORED)] = np.arange(len(SCORED)) + first
        pairs = [(image, matlab / f"{image.stem}.mat") for image in images]
        read = partial(read_matlab_mask, variable="LabelMap")
        return PairedFiles(table, pairs, read, ids, f"0..{CATEGORIES}", LAYOUT, listed=listed)
    if not pictures.is_dir():
        raise FolderDataError(f"no masks in {root}, neither {matlab.name}/ nor {pictures.name}/; expected {LAYOUT}")
    ids = np.array([background, *(np.arange(len(SCORED)) + first)], np.int16)
    pairs = [(image, pictures / f"{image.stem}.png") for image in images]
    return PairedFiles(table, pairs, read_mask, ids, "0..59", LAYOUT, listed=listed)
