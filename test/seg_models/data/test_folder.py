"""The folder data set and its augmentation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from seg_models.data.folder import EpochShuffle, FolderDataError, FolderDataset
from seg_models.data.labels import LabelTableError, read_label_table
from seg_models.data.transforms import RandomScaleCropFlip, Resize
from seg_models.losses import IGNORE

CLASSES = [
    {"id": 0, "name": "floor", "color": [10, 20, 30]},
    {"id": 1, "name": "wall", "color": [40, 50, 60]},
]


def write_folder(root: Path, count: int = 4, split: str = "train", classes: list | None = None) -> Path:
    """A folder data set of random images whose left half is floor and right half wall."""
    generator = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    (root / "classes.yaml").write_text(yaml.safe_dump({"classes": classes or CLASSES}))
    for index in range(count):
        labels = np.zeros((24, 32), np.uint8)
        labels[:, 16:] = 1
        labels[0, 0] = IGNORE
        cv2.imwrite(
            str(root / "images" / split / f"{index:04d}.png"), generator.integers(0, 255, (24, 32, 3), np.uint8)
        )
        cv2.imwrite(str(root / "labels" / split / f"{index:04d}.png"), labels)
    return root


def test_reads_rgb_images_and_masks(tmp_path):
    write_folder(tmp_path, 1)
    cv2.imwrite(str(tmp_path / "images/train/0000.png"), np.full((24, 32, 3), (1, 2, 3), np.uint8))  # BGR
    image, labels = FolderDataset([tmp_path], "train")[0]
    assert image.dtype == torch.uint8
    assert image.shape == (3, 24, 32)
    assert image[:, 0, 0].tolist() == [3, 2, 1]
    assert labels.dtype == torch.int64
    assert labels[0, :2].tolist() == [IGNORE, 0]


def test_several_folders_make_one_data_set(tmp_path):
    roots = [write_folder(tmp_path / "a", 2), write_folder(tmp_path / "b", 3)]
    assert len(FolderDataset(roots, "train")) == 5


def remove_mask(root: Path) -> None:
    (root / "labels/train/0001.png").unlink()


def shrink_mask(root: Path) -> None:
    cv2.imwrite(str(root / "labels/train/0000.png"), np.zeros((5, 5), np.uint8))


def unknown_id(root: Path) -> None:
    cv2.imwrite(str(root / "labels/train/0000.png"), np.full((24, 32), 9, np.uint8))


def break_image(root: Path) -> None:
    (root / "images/train/0000.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_mask, "1 of 4 images have no mask; the first is .*0001.png"),
        (shrink_mask, r"is \(5, 5\), its image \(24, 32\)"),
        (unknown_id, r"holds ids \[9\]; expected 0\.\.1 or 255"),
        (break_image, "cannot be decoded"),
    ],
)
def test_damaged_folders_are_named(tmp_path, damage, message):
    damage(write_folder(tmp_path))
    with pytest.raises(FolderDataError, match=message):
        FolderDataset([tmp_path], "train")[0]


def test_a_split_that_is_not_there_lists_those_that_are(tmp_path):
    with pytest.raises(FolderDataError, match="no split 'test'; it has: train"):
        FolderDataset([write_folder(tmp_path)], "test")


def test_folders_with_other_classes_are_refused(tmp_path):
    other = [{"id": 0, "name": "sky", "color": [0, 0, 0]}, {"id": 1, "name": "road", "color": [0, 0, 0]}]
    roots = [write_folder(tmp_path / "a"), write_folder(tmp_path / "b", classes=other)]
    with pytest.raises(FolderDataError, match="has other classes"):
        FolderDataset(roots, "train")


def test_label_tables_with_gaps_are_refused(tmp_path):
    table = tmp_path / "classes.yaml"
    table.write_text(
        yaml.safe_dump(
            {"classes": [{"id": 0, "name": "a", "color": [0, 0, 0]}, {"id": 2, "name": "b", "color": [0, 0, 0]}]}
        )
    )
    with pytest.raises(LabelTableError, match=r"class ids \[0, 2\]"):
        read_label_table(table)
    with pytest.raises(LabelTableError, match="no label table"):
        read_label_table(tmp_path / "absent.yaml")


def test_augmentation_repeats_for_an_epoch_and_differs_between_epochs(tmp_path):
    data = FolderDataset([write_folder(tmp_path)], "train", RandomScaleCropFlip((24, 32)), seed=3)
    first, again, next_epoch = data[1], data[1], data[len(data) + 1]
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], next_epoch[0])


def test_augmentation_moves_labels_with_the_image():
    """Colours that encode the class: after scale, crop and flip every pixel must still carry its class's colour."""
    labels = np.zeros((60, 80), np.uint8)
    labels[:, 40:] = 1
    labels[30:, :20] = 2
    colours = np.array([[0, 0, 0], [120, 120, 120], [240, 240, 240]], np.uint8)
    transform = RandomScaleCropFlip((60, 80), brightness=0, contrast=0, saturation=0, hue_degrees=0)
    seen = set()
    for seed in range(20):
        image, moved = transform(colours[labels], labels, np.random.default_rng(seed))
        known = moved != IGNORE
        nearest = np.abs(image[..., :1].astype(int) - colours[:, 0].astype(int)).argmin(-1)
        # bilinear edges are the only pixels whose colour lies between two classes'
        assert (nearest == moved)[known].mean() > 0.97
        seen.add(round(float(known.mean()), 2))
    assert min(seen) < 0.5 < max(seen)  # both smaller and larger scales occurred


def test_outside_the_image_is_unlabelled():
    transform = RandomScaleCropFlip((64, 64), scale=(0.5, 0.5))
    _, labels = transform(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8), np.random.default_rng(0))
    assert (labels == 0).mean() == pytest.approx(0.25, abs=0.03)
    assert set(np.unique(labels)) == {0, IGNORE}


def test_jitter_changes_colours_within_its_range():
    transform = RandomScaleCropFlip((8, 8), contrast=0, saturation=0, hue_degrees=0, brightness=0.4)
    image = np.full((8, 8, 3), 100, np.uint8)
    values = [int(transform.jitter(image, np.random.default_rng(s))[0, 0, 0]) for s in range(200)]
    assert 60 <= min(values) < 70
    assert 130 < max(values) <= 140


def test_resize_for_evaluation_keeps_ids():
    labels = np.array([[0, 200], [7, 255]], np.uint8)
    _, resized = Resize((8, 8))(np.zeros((2, 2, 3), np.uint8), labels, np.random.default_rng(0))
    assert set(np.unique(resized)) == {0, 7, 200, 255}


def test_each_process_gets_its_own_share_of_every_epoch():
    shares = [EpochShuffle(10, seed=1, rank=rank, world=3) for rank in range(3)]
    for epoch in (0, 1):
        for share in shares:
            share.set_epoch(epoch)
        keys = [key for share in shares for key in share]
        assert len(keys) == len(set(keys)) == 9
        assert {key // 10 for key in keys} == {epoch}
