"""CamVid as SegNet's authors published it."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_models.data.folder import FolderDataset
from seg_models.data.layouts.samples import FolderDataError
from seg_models.losses import IGNORE


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)


def camvid(root: Path) -> Path:
    """One image a split; its mask holds every value."""
    for split in ("train", "val", "test"):
        write(root / split / "0001TP_006690.png", np.full((3, 4, 3), (1, 2, 3), np.uint8))  # BGR
        write(root / f"{split}annot" / "0001TP_006690.png", np.arange(12, dtype=np.uint8).reshape(3, 4))
    return root


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_reads_a_split_where_it_lies_and_leaves_void_unlabelled(tmp_path, split):
    data = FolderDataset([camvid(tmp_path)], split, kind="camvid")
    image, labels = data.read(0)
    assert image[0, 0].tolist() == [3, 2, 1]
    assert labels.ravel().tolist() == [*range(11), IGNORE]
    assert (data.table.names[0], data.table.names[10], len(data.table.names)) == ("sky", "bicyclist", 11)
    assert data.table.palette[3] == (128, 64, 128)  # road


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: write(root / "trainannot/0001TP_006690.png", np.full((3, 4), 12, np.uint8)), r"holds ids \[12\]"),
        (lambda root: write(root / "trainannot/0001TP_006690.png", np.zeros((3, 3), np.uint8)), r"is \(3, 3\), its"),
        (lambda root: (root / "trainannot/0001TP_006690.png").unlink(), "1 of 1 images have no mask; the first is"),
        (lambda root: (root / "train/0001TP_006690.png").unlink(), "no images in .*expected SegNet's folder CamVid"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, damage, message):
    damage(camvid(tmp_path))
    with pytest.raises(FolderDataError, match=message):
        FolderDataset([tmp_path], "train", kind="camvid").read(0)


def test_a_wrong_root_or_split_says_what_the_layout_should_be(tmp_path):
    with pytest.raises(
        FolderDataError, match=re.escape(f"no folder {tmp_path / 'train'}; expected SegNet's folder CamVid")
    ):
        FolderDataset([tmp_path], "train", kind="camvid")
    with pytest.raises(FolderDataError, match="no split 'validation'; expected one of train, val, test"):
        FolderDataset([camvid(tmp_path)], "validation", kind="camvid")
    with pytest.raises(FolderDataError, match=r"no data at .*missing"):
        FolderDataset([tmp_path / "missing"], "train", kind="camvid")
