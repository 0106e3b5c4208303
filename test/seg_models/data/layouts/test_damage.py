"""Every layout names the file that is wrong, and what it should be."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin
from scipy.io import savemat

from seg_models.data.folder import FolderDataset
from seg_models.data.layouts.opening import KINDS, open_split
from seg_models.data.layouts.samples import FolderDataError
from test.seg_models.data.check.test_check import LAYOUTS
from test.seg_models.data.layouts.test_bag import bag

FILES = [kind for kind in KINDS if kind != "bag"]
EXPECTED = {
    "folder": "expected 0..1 or 255",
    "ade20k": "expected 0 for none, 1..150",
    "cityscapes": "expected 0..33",
    "pascal_context_59": "expected 0..459",
    "pascal_context_60": "expected 0..459",
    "coco_stuff_10k": "expected 0 for none, 1..182",
    "coco_stuff_164k": "expected 0..181, 255 for none",
    "camvid": "expected 0..10, or 11 where not labelled",
    "bag": "expected 0..1 or 255",
}
WRONG = {"coco_stuff_164k": 200, "pascal_context_59": 999, "pascal_context_60": 999}  # elsewhere 254


def rewrite(root: Path, kind: str, values: np.ndarray) -> Path:
    """Give the first image of the training split another mask; where it is."""
    if kind == "bag":
        shutil.rmtree(root / "train")
        bag(root / "train/drive", False, StoragePlugin.MCAP, values.astype(np.uint8))
        return open_split(kind, root, "train").masks[0]
    mask = open_split(kind, root, "train").masks[0]
    if mask.suffix == ".mat":
        savemat(mask, {"LabelMap" if kind.startswith("pascal") else "S": values})
    else:
        cv2.imwrite(str(mask), values.astype(np.uint8))
    return mask


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_of_another_size_is_named(tmp_path, kind):
    root = LAYOUTS[kind](tmp_path)
    height, width = open_split(kind, root, "train").read_labels(0).shape
    mask = rewrite(root, kind, np.ones((height, width + 1), np.uint16))
    message = f"{mask} is ({height}, {width + 1}), its image ({height}, {width}); same size expected"
    with pytest.raises(FolderDataError, match=re.escape(message)):
        FolderDataset([root], "train", kind=kind).read(0)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_outside_the_table_are_named_with_the_file_and_what_was_expected(tmp_path, kind):
    root = LAYOUTS[kind](tmp_path)
    wrong = WRONG.get(kind, 254)
    mask = rewrite(root, kind, np.full(open_split(kind, root, "train").read_labels(0).shape, wrong, np.uint16))
    message = f"{mask} holds ids [{wrong}]; {EXPECTED[kind]}"
    with pytest.raises(FolderDataError, match=re.escape(message)):
        FolderDataset([root], "train", kind=kind).read(0)


@pytest.mark.parametrize("kind", FILES)
def test_an_image_without_its_mask_is_named_with_the_layout(tmp_path, kind):
    root = LAYOUTS[kind](tmp_path)
    mask = open_split(kind, root, "train").masks[0]
    mask.unlink()
    with pytest.raises(FolderDataError, match=re.escape(f"images have no mask; the first is {mask}; expected ")):
        open_split(kind, root, "train")


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_split_says_which_there_are_or_what_it_should_be(tmp_path, kind):
    root = LAYOUTS[kind](tmp_path)
    with pytest.raises(FolderDataError, match=r"holdout.*(it has|expected)"):
        open_split(kind, root, "holdout")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "folder"])
def test_a_split_that_is_not_there_names_the_place_and_the_layout(tmp_path, kind):
    root = LAYOUTS[kind](tmp_path)
    image = open_split(kind, root, "train").images[0]
    place = image.parent
    while place.parent != root:
        place = place.parent
    shutil.rmtree(place)
    with pytest.raises(FolderDataError, match=re.escape(str(root)) + ".*; expected "):
        open_split(kind, root, "train")
