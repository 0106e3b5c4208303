"""ADE20K, Cityscapes, Pascal Context and COCO-Stuff as they are published, in miniature."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from seg_models.data.folder import FolderDataset
from seg_models.data.layouts.opening import KINDS, open_split
from seg_models.data.layouts.pascal_context import SCORED
from seg_models.data.layouts.samples import FolderDataError
from seg_models.losses import IGNORE
from test.seg_models.data.layouts.test_camvid import camvid, write
from test.seg_models.data.test_convert import ade20k, cityscapes
from test.seg_models.data.test_folder import write_folder

IMAGE = np.full((2, 3, 3), 100, np.uint8)


def matlab(path: Path, **content: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, content)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def pascal_context(root: Path) -> Path:
    """VOC2010 with one image a split, whose mask holds categories 2 (aeroplane), 9 (bag), 458 (wood), 1 and 459."""
    for split, name in (("train", "2008_000002"), ("val", "2008_000003")):
        text(root / f"ImageSets/Main/{split}.txt", f"{name}\n")
        write(root / f"JPEGImages/{name}.jpg", IMAGE)
        matlab(root / f"trainval/{name}.mat", LabelMap=np.array([[2, 9, 458], [1, 459, 0]], np.uint16))
    return root


def coco_stuff_10k(root: Path) -> Path:
    """cocostuff-10k-v1.1 with one image a list: person, toothbrush, banner, wood, unlabelled."""
    for split, name in (("train", "COCO_train2014_000000000077"), ("test", "COCO_train2014_000000000078")):
        text(root / f"imageLists/{split}.txt", f"{name}\n")
        write(root / f"images/{name}.jpg", IMAGE)
        matlab(root / f"annotations/{name}.mat", S=np.array([[1, 90, 92], [182, 0, 13]], np.uint16))
    return root


def coco_stuff_164k(root: Path) -> Path:
    """COCO 2017 with stuffthingmaps: the same classes, counted from 0."""
    for split in ("train2017", "val2017"):
        write(root / f"images/{split}/000000000139.jpg", IMAGE)
        write(root / f"annotations/{split}/000000000139.png", np.array([[0, 89, 91], [181, 255, 12]], np.uint8))
    return root


COCO = [[0, 79, 80], [170, IGNORE, 11]]  # toothbrush is the last thing, banner the first stuff
CASES: dict[str, tuple[Callable[[Path], Path], list, dict[int, str]]] = {
    "ade20k": (ade20k, [[IGNORE, 0], [1, 149]], {0: "wall", 149: "flag"}),
    "pascal_context_59": (pascal_context, [[0, 1, 58], [IGNORE] * 3], {0: "aeroplane", 1: "bag", 58: "wood"}),
    "pascal_context_60": (pascal_context, [[1, 2, 59], [0] * 3], {0: "background", 1: "aeroplane", 59: "wood"}),
    "coco_stuff_10k": (coco_stuff_10k, COCO, {0: "person", 79: "toothbrush", 80: "banner", 170: "wood"}),
    "coco_stuff_164k": (coco_stuff_164k, COCO, {11: "stop sign"}),
}


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("kind", CASES)
def test_a_published_layout_is_read_where_it_lies(tmp_path, kind, split):
    make, labels, names = CASES[kind]
    data = FolderDataset([make(tmp_path)], split, kind=kind)
    assert len(data) == 1
    assert data.read(0)[1].tolist() == labels
    assert {index: data.table.names[index] for index in names} == names
    assert data.read(0)[0].mean() == pytest.approx(100, abs=2)


def test_cityscapes_scores_19_of_its_34_ids(tmp_path):
    data = FolderDataset([cityscapes(tmp_path)], "val", kind="cityscapes")
    labels = data.read(0)[1].ravel()
    assert labels[[7, 8, 33]].tolist() == [0, 1, 18]
    assert (labels == IGNORE).sum() == 34 - 19
    assert (data.table.names[18], data.table.palette[0]) == ("bicycle", (128, 64, 128))


def test_pascal_context_as_mmsegmentation_writes_it_gives_the_same_classes(tmp_path):
    root = pascal_context(tmp_path)
    (root / "trainval").rename(root / "elsewhere")
    write(root / "SegmentationClassContext/2008_000002.png", np.array([[1, 2, 59], [0, 0, 0]], np.uint8))
    for kind in ("pascal_context_59", "pascal_context_60"):
        assert FolderDataset([root], "train", kind=kind).read(0)[1].tolist() == CASES[kind][1]


def test_the_59_scored_categories_are_different_ones():
    assert len(set(SCORED)) == 59
    assert all(1 <= category <= 459 for category in SCORED)


def test_another_mask_than_published_is_named(tmp_path):
    root = coco_stuff_10k(tmp_path / "a")
    matlab(root / "annotations/COCO_train2014_000000000077.mat", S=np.full((2, 3), 12, np.uint16))  # street sign
    with pytest.raises(FolderDataError, match=r"077.mat holds ids \[12\]; expected 0 for none, 1..182"):
        FolderDataset([root], "train", kind="coco_stuff_10k").read(0)
    matlab(root / "annotations/COCO_train2014_000000000077.mat", T=np.zeros((2, 3), np.uint16))
    with pytest.raises(FolderDataError, match=r"077.mat has no variable S"):
        FolderDataset([root], "train", kind="coco_stuff_10k").read(0)
    (root / "annotations/COCO_train2014_000000000077.mat").write_bytes(b"MATLAB 5.0 MAT-file, cut off")
    with pytest.raises(FolderDataError, match=r"077.mat cannot be read as a MATLAB file"):
        FolderDataset([root], "train", kind="coco_stuff_10k").read(0)
    root = ade20k(tmp_path / "b")
    cv2.imwrite(str(root / "annotations/training/ADE_00000001.png"), np.full((2, 2), 151, np.uint8))
    with pytest.raises(FolderDataError, match=r"holds ids \[151\]; expected 0 for none, 1..150"):
        FolderDataset([root], "train", kind="ade20k").read(0)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("folder", "bag")])
def test_the_root_of_another_data_set_says_what_was_expected(tmp_path, kind):
    other = (camvid if kind != "camvid" else write_folder)(tmp_path)
    with pytest.raises(FolderDataError, match=re.escape(str(other)) + ".*; expected "):
        open_split(kind, other, "train")


def test_an_image_that_a_list_names_and_nobody_has_is_named(tmp_path):
    root = pascal_context(tmp_path)
    (root / "JPEGImages/2008_000003.jpg").unlink()
    with pytest.raises(FolderDataError, match=r"no image .*2008_000003.jpg, which val.txt names; expected VOC2010"):
        open_split("pascal_context_59", root, "val")
