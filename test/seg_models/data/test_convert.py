"""Folder data sets made of ADE20K and Cityscapes as they are unpacked."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_models.data import convert
from seg_models.data.folder import FolderDataset
from seg_models.losses import IGNORE


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)


def ade20k(root: Path) -> Path:
    """One image a split, whose mask holds 0, 1, 2 and 150."""
    for folder in ("training", "validation"):
        write(root / f"images/{folder}/ADE_00000001.jpg", np.full((2, 2, 3), 100, np.uint8))
        write(root / f"annotations/{folder}/ADE_00000001.png", np.array([[0, 1], [2, 150]], np.uint8))
    lines = [f"{i}\t0.1\t10\t1\tclass {i}, other name" for i in range(1, 151)]
    (root / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *lines]) + "\n")
    return root


def cityscapes(root: Path) -> Path:
    """One image a split, whose mask holds every label id."""
    for split, city in (("train", "aachen"), ("val", "lindau")):
        write(root / f"leftImg8bit/{split}/{city}/{city}_000000_000019_leftImg8bit.png", np.zeros((2, 17, 3), np.uint8))
        write(
            root / f"gtFine/{split}/{city}/{city}_000000_000019_gtFine_labelIds.png",
            np.arange(34, dtype=np.uint8).reshape(2, 17),
        )
    return root


@pytest.mark.parametrize("copy", [False, True])
def test_ade20k_counts_its_classes_from_zero_and_leaves_the_rest_unlabelled(tmp_path, capsys, copy):
    target = tmp_path / "data/ade20k"
    source = ade20k(tmp_path / "ADEChallengeData2016")
    assert convert.main(["ade20k", str(source), str(target), *(["--copy"] if copy else [])]) == 0
    assert capsys.readouterr().out == f"{target}: 1 images to train on, 1 to validate on\n"
    for split in ("train", "val"):
        data = FolderDataset([target], split)
        image, labels = data.read(0)
        assert image.mean() == pytest.approx(100, abs=2)
        assert labels.tolist() == [[IGNORE, 0], [1, 149]]
    assert (len(data.table.names), data.table.names[149]) == (150, "class 150, other name")
    assert len(set(data.table.palette)) == 150
    assert data.images[0].is_symlink() != copy


def test_cityscapes_has_its_19_train_ids(tmp_path):
    target = tmp_path / "data"
    assert convert.main(["cityscapes", str(cityscapes(tmp_path / "cityscapes")), str(target)]) == 0
    data = FolderDataset([target], "val")
    labels = data.read(0)[1].ravel()  # the train id of each label id
    assert {name: int(labels[label]) for label, name in ((7, "road"), (24, "person"), (33, "bicycle"))} == {
        name: data.table.names.index(name) for name in ("road", "person", "bicycle")
    }
    assert sorted(labels[labels != IGNORE]) == list(range(19))
    assert (data.images[0].name, len(data.table.names)) == ("lindau_000000_000019.png", 19)


def test_a_stopped_conversion_is_begun_anew_and_a_finished_one_is_kept(tmp_path, capsys):
    source, target = ade20k(tmp_path / "source"), tmp_path / "target"
    mask = source / "annotations/validation/ADE_00000001.png"
    mask.rename(tmp_path / "elsewhere.png")
    assert convert.main(["ade20k", str(source), str(target)]) == 2
    assert f"{mask} is not there or damaged" in capsys.readouterr().err
    (tmp_path / "elsewhere.png").rename(mask)
    assert convert.main(["ade20k", str(source), str(target)]) == 0
    assert convert.main(["ade20k", str(source), str(target)]) == 2
    assert "already holds a data set" in capsys.readouterr().err


def wrong_value(source: Path) -> None:
    write(source / "annotations/training/ADE_00000001.png", np.full((2, 2), 151, np.uint8))


def colours_instead_of_ids(source: Path) -> None:
    write(source / "annotations/training/ADE_00000001.png", np.zeros((2, 2, 3), np.uint8))


def empty_image(source: Path) -> None:
    (source / "images/training/ADE_00000001.jpg").write_bytes(b"")


def half_an_image(source: Path) -> None:
    path = source / "images/training/ADE_00000001.jpg"
    path.write_bytes(path.read_bytes()[:-9])


def link_out_of_the_tree(source: Path) -> None:
    path = source / "images/training/ADE_00000001.jpg"
    path.symlink_to(path.rename(source.parent / "elsewhere.jpg"))


def mask_of_another_size(source: Path) -> None:
    write(source / "annotations/training/ADE_00000001.png", np.zeros((3, 2), np.uint8))


def names_that_are_no_text(source: Path) -> None:
    (source / "objectInfo150.txt").write_bytes(b"1\t\xff\n")


def no_names(source: Path) -> None:
    (source / "objectInfo150.txt").unlink()


def too_few_names(source: Path) -> None:
    (source / "objectInfo150.txt").write_text("1\t0.1\twall\n")


def no_validation(source: Path) -> None:
    (source / "images/validation/ADE_00000001.jpg").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (wrong_value, "holds the value 151; expected 0 to 150"),
        (colours_instead_of_ids, "is in colour; expected ids"),
        (empty_image, "ADE_00000001.jpg is empty"),
        (half_an_image, "it is a JPEG that is cut off"),
        (link_out_of_the_tree, "is a link out of"),
        (mask_of_another_size, "is (3, 2), its image (2, 2); same size expected"),
        (names_that_are_no_text, "is no text in UTF-8"),
        (no_names, "as it is in its archive"),
        (too_few_names, "names 1 classes; expected 150"),
        (no_validation, "has 1 images to train on and 0 to validate on; expected ade20k as unpacked"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(tmp_path, capsys, damage, message):
    source = ade20k(tmp_path / "source")
    damage(source)
    assert convert.main(["ade20k", str(source), str(tmp_path / "target")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
