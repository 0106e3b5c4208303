"""Folders of one's own: masks of colours, and folders that lie otherwise."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from seg_models.data.folder import FolderDataset
from seg_models.data.layouts.samples import FolderDataError
from seg_models.losses import IGNORE
from test.seg_models.data.test_folder import CLASSES, write_folder

RGB = np.array([[[10, 20, 30], [40, 50, 60]], [[0, 0, 0], [10, 20, 30]]], np.uint8)  # floor, wall, none, floor


def described(root: Path, **keys: object) -> Path:
    (root / "classes.yaml").write_text(yaml.safe_dump({"classes": CLASSES, **keys}))
    return root


def coloured(root: Path) -> Path:
    """One image with a mask in colours, black where not labelled."""
    write_folder(root, 1)
    cv2.imwrite(str(root / "images/train/0000.png"), np.zeros((2, 2, 3), np.uint8))
    cv2.imwrite(str(root / "labels/train/0000.png"), RGB[..., ::-1])
    return described(root, masks="color", unlabelled_color=[0, 0, 0])


def test_masks_of_colours_become_ids(tmp_path):
    assert FolderDataset([coloured(tmp_path)], "train").read(0)[1].tolist() == [[0, 1], [IGNORE, 0]]


def test_a_colour_of_no_class_is_named_with_its_place(tmp_path):
    described(coloured(tmp_path), masks="color")
    with pytest.raises(FolderDataError, match=r"0000.png has the colour \[0, 0, 0\] at x 0, y 1, which is of no class"):
        FolderDataset([tmp_path], "train").read(0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"masks": "colour"}, "masks: 'colour'; expected index or color"),
        ({"masks": "color", "unlabelled_color": [0, 0]}, r"unlabelled_color: \[0, 0\]; expected"),
        ({"masks": "color", "unlabelled_color": [10, 20, 30]}, "which is the colour of a class"),
        ({"images": "/etc/{split}"}, "images: '/etc/{split}'; expected a path in the folder"),
        ({"labels": "../{split}"}, "labels: '../{split}'; expected a path in the folder"),
        ({"mask_name": "mask.png"}, "expected {name} in it"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(tmp_path, keys, message):
    described(coloured(tmp_path), **keys)
    with pytest.raises(FolderDataError, match=message):
        FolderDataset([tmp_path], "train")


def test_images_and_masks_may_lie_otherwise_also_in_one_folder(tmp_path):
    write_folder(tmp_path, 2)
    (tmp_path / "all/train").mkdir(parents=True)
    for path in (tmp_path / "images/train").iterdir():
        path.rename(tmp_path / "all/train" / path.name)
    for path in (tmp_path / "labels/train").iterdir():
        path.rename(tmp_path / "all/train" / f"{path.stem}_mask.png")
    described(tmp_path, images="all/{split}", labels="all/{split}", mask_name="{name}_mask.png")
    data = FolderDataset([tmp_path], "train")
    assert [path.name for path in data.images] == ["0000.png", "0001.png"]
    assert data.read(1)[1][0, :2].tolist() == [IGNORE, 0]
