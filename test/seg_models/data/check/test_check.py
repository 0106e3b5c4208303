"""`python -m seg_models.data.check` on miniature data sets, whole and damaged."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from seg_models.data.check.command import main
from seg_models.data.check.examine import examine_split
from seg_models.data.folder import FolderDataset
from seg_models.data.labels import LabelTable
from seg_models.data.layouts.opening import KINDS, splits_of
from seg_models.data.layouts.samples import FolderDataError, Samples
from test.seg_models.data.layouts.test_bag import recordings
from test.seg_models.data.layouts.test_camvid import camvid
from test.seg_models.data.layouts.test_published import coco_stuff_10k, coco_stuff_164k, pascal_context
from test.seg_models.data.test_convert import ade20k, cityscapes
from test.seg_models.data.test_folder import write_folder

HEIGHT, WIDTH = 24, 32


def bag(root: Path) -> Path:
    return recordings(root, (True, StoragePlugin.MCAP), (False, StoragePlugin.SQLITE3))


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "folder": lambda root: two_splits(root),
    "ade20k": ade20k,
    "cityscapes": cityscapes,
    "pascal_context_59": pascal_context,
    "pascal_context_60": pascal_context,
    "coco_stuff_10k": coco_stuff_10k,
    "coco_stuff_164k": coco_stuff_164k,
    "camvid": camvid,
    "bag": bag,
}


def two_splits(root: Path, count: int = 4) -> Path:
    """A folder data set whose splits have different random images."""
    write_folder(root, count)
    write_folder(root, count, "val")
    rng = np.random.default_rng(1)
    for path in sorted((root / "images/val").iterdir()):
        cv2.imwrite(str(path), rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    return root


def check(root: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON."""
    path = root.parent / "found.json"
    code = main([str(root), "--json", str(path), "--workers", "1", *more])
    return code, json.loads(path.read_text())


def problems(content: dict[str, Any], kind: str) -> list[str]:
    return [problem["message"] for problem in content["problems"] if problem["kind"] == kind]


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_is_counted_as_training_reads_it(tmp_path, kind):
    root = LAYOUTS[kind](tmp_path / "data")
    rng = np.random.default_rng(0)
    for image in [path for path in root.rglob("*.[jp][pn]g") if cv2.imread(str(path), cv2.IMREAD_UNCHANGED).ndim == 3]:
        cv2.imwrite(str(image), rng.integers(0, 256, cv2.imread(str(image)).shape, np.uint8))
    code, content = check(root, "--kind", kind)
    assert (code, content["problems"]) == (0, [])
    assert list(content["splits"]) == splits_of(kind, root)
    for split, of in content["splits"].items():
        data = FolderDataset([root], split, kind=kind)
        counts = sum(np.bincount(data.read_labels(index).ravel(), minlength=256) for index in range(len(data)))
        assert [one["pixels"] for one in of["classes"].values()] == counts[: len(data.table.names)].tolist()
        assert (of["images"], of["unlabelled_pixels"]) == (len(data), counts[255])
        assert sum(one["share"] for one in of["classes"].values()) == pytest.approx(1)


def test_everything_that_is_wrong_is_named_in_one_run(tmp_path):
    root = two_splits(tmp_path / "data", 8)
    images, labels = root / "images/train", root / "labels/train"
    (labels / "0000.png").unlink()
    (images / "0001.png").unlink()
    (images / "0002.png").write_bytes((images / "0002.png").read_bytes()[:500])
    (labels / "0003.png").write_bytes(b"")
    cv2.imwrite(str(labels / "0004.png"), np.zeros((HEIGHT, WIDTH + 1), np.uint8))
    cv2.imwrite(str(labels / "0005.png"), np.full((HEIGHT, WIDTH), 9, np.uint8))
    code, content = check(root, "--workers", "2")
    assert code == 1
    for kind, message in (
        ("image without mask", "images/train/0000.png has no mask"),
        ("mask without image", "labels/train/0001.png has no image"),
        ("broken image", "images/train/0002.png cannot be decoded as an image, it is a PNG that is cut off"),
        ("broken mask", "labels/train/0003.png is empty"),
        ("mask of another size", "labels/train/0004.png is (24, 33), its image (24, 32)"),
        ("ids outside the table", "labels/train/0005.png holds ids [9]; expected 0..1 or 255"),
    ):
        (found,) = problems(content, kind)
        assert message in found
    assert content["problem_counts"] == dict.fromkeys(content["problem_counts"], 1)
    assert content["splits"]["train"]["images"] == 6
    assert content["splits"]["train"]["classes"]["wall"]["images"] == 3  # 0002, 0006 and 0007


def test_a_list_that_names_what_is_not_there(tmp_path):
    root = pascal_context(tmp_path / "data")
    (root / "ImageSets/Main/val.txt").write_text("2008_000003\n2008_000004\n2008_000005\n")
    (root / "trainval/2008_000004.mat").write_bytes((root / "trainval/2008_000003.mat").read_bytes())
    _, content = check(root, "--kind", "pascal_context_59")
    assert problems(content, "mask without image") == [f"{root}/trainval/2008_000004.mat has no image"]
    assert content["splits"]["val"]["images"] == 1


def test_images_of_one_split_in_another_are_found_though_resized_and_compressed(tmp_path):
    root = two_splits(tmp_path / "data")
    rng = np.random.default_rng(2)
    picture = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    small = cv2.resize(picture, (160, 120), interpolation=cv2.INTER_AREA)
    for folder, name, written in (
        ("train", "a.png", picture),
        ("val", "same.png", picture),
        ("val", "near.jpg", small),
    ):
        cv2.imwrite(str(root / "images" / folder / name), written, [cv2.IMWRITE_JPEG_QUALITY, 60])
        mask = root / "labels" / folder / f"{Path(name).stem}.png"
        cv2.imwrite(str(mask), np.zeros(written.shape[:2], np.uint8))
    code, content = check(root)
    assert code == 1
    (same,) = problems(content, "same image")
    assert f"{root}/images/val/same.png of val has the same pixels as {root}/images/train/a.png of train" in same
    (near,) = problems(content, "near-same image")
    assert f"{root}/images/val/near.jpg of val is nearly (correlation 0.9" in near
    assert content["problem_counts"] == {"same image": 1, "near-same image": 1}


def video(root: Path, numbers: np.ndarray) -> Path:
    """A camera that moves along a picture: the first half of the frames to train on; `numbers` are those in the names."""
    write_folder(root, 0)
    write_folder(root, 0, "val")
    rng = np.random.default_rng(3)
    scene = cv2.resize(rng.integers(0, 256, (6, 200, 3), np.uint8), (4000, 120), interpolation=cv2.INTER_CUBIC)
    for index, number in enumerate(numbers):
        split = "train" if index < len(numbers) // 2 else "val"
        frame = scene[:, 10 * index : 10 * index + 160]
        cv2.imwrite(str(root / f"images/{split}/drive_{number:06d}.png"), frame)
        cv2.imwrite(str(root / f"labels/{split}/drive_{number:06d}.png"), np.zeros(frame.shape[:2], np.uint8))
    return root


def test_one_video_in_two_splits_is_a_leak_and_numbers_of_a_collection_are_none(tmp_path):
    root = video(tmp_path / "video", np.arange(80))
    code, content = check(root)
    assert code == 1
    (found,) = problems(content, "sequence in several splits")
    assert found.startswith("drive is one video by its names and looks")
    assert found.endswith("40 in train, 40 in val")
    assert check(root, "--allow-sequences")[0] == 0
    collection = video(tmp_path / "collection", np.random.default_rng(4).permutation(80))
    assert check(collection)[0] == 0


def test_the_contact_sheet_shows_labels_in_the_colours_of_its_legend(tmp_path):
    root, sheet = two_splits(tmp_path / "data"), tmp_path / "made/sheet.png"
    for split in ("train", "val"):
        for path in (root / "images" / split).iterdir():
            cv2.imwrite(str(path), np.full((240, 320, 3), 200, np.uint8))
            cv2.imwrite(
                str(root / "labels" / split / path.name), np.tile(np.repeat([0, 1], 160), (240, 1)).astype(np.uint8)
            )
    main([str(root), "--sheet", str(sheet), "--thumbnails", "2", "--workers", "1"])
    picture = cv2.cvtColor(cv2.imread(str(sheet)), cv2.COLOR_BGR2RGB)
    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    found = {tuple(colour): int(count) for colour, count in zip(colours.tolist(), counts, strict=True)}
    for red, green, blue in ((10, 20, 30), (40, 50, 60)):  # of the classes: the legend, and half of it over 200
        assert found[red, green, blue] >= 100
        assert found[100 + red // 2, 100 + green // 2, 100 + blue // 2] == 2 * 2 * 240 * 160


def test_bad_input_is_one_line(tmp_path, capsys):
    root = two_splits(tmp_path / "data")
    for given, message in (
        ([str(tmp_path / "nowhere")], "no label table at"),
        ([str(root), "--kind", "camvid"], "expected SegNet's folder CamVid: train/NAME.png with trainannot/NAME.png"),
        ([str(root), "--splits", "holdout"], "has no split 'holdout'; it has: train, val; expected classes.yaml"),
        ([str(root), "--sheet", str(tmp_path / "sheet.gif")], "expected a name ending in .png or .jpg"),
        ([str(root), "--workers", "-1"], "must be 0 or more"),
    ):
        assert main([*given]) == 2
        error = capsys.readouterr().err
        assert message in error.splitlines()[-1]


def test_a_published_split_that_is_missing_is_a_problem_and_the_others_are_checked(tmp_path):
    root = ade20k(tmp_path / "data")
    (root / "images/validation").rename(root / "elsewhere")
    code, content = check(root, "--kind", "ade20k")
    assert code == 1
    assert problems(content, "split")[0].startswith(
        f"cannot be opened: no folder {root}/images/validation; expected ADE"
    )
    assert list(content["splits"]) == ["train"]


class Deadly(Samples):
    """Ends the process that reads it, as the kernel does when memory is short."""

    def __init__(self) -> None:
        self.table = LabelTable(("floor",), ((0, 0, 0),))
        self.images = self.masks = [Path("a")] * 40

    def read_image(self, index: int) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def read_labels(self, index: int) -> np.ndarray:
        return np.zeros((1, 1), np.uint8)

    def masks_without_image(self) -> list[Path]:
        return []

    def check_complete(self) -> None:
        pass


def test_a_process_that_is_killed_ends_the_check_with_a_line():
    with pytest.raises(FolderDataError, match="a process that read images ended"):
        list(examine_split(Deadly(), 2))
