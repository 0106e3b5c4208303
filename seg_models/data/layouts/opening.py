"""The one way to a data set on disk: by its kind, root and split."""

from __future__ import annotations

from pathlib import Path

from seg_models.data.layouts.ade20k import ade20k
from seg_models.data.layouts.bag import BagSamples, bag_splits
from seg_models.data.layouts.camvid import camvid
from seg_models.data.layouts.cityscapes import cityscapes
from seg_models.data.layouts.coco_stuff import coco_stuff_10k, coco_stuff_164k
from seg_models.data.layouts.folder_layout import folder, folder_splits
from seg_models.data.layouts.pascal_context import pascal_context
from seg_models.data.layouts.samples import FolderDataError, Samples

KINDS = (
    *("folder", "ade20k", "cityscapes", "pascal_context_59", "pascal_context_60"),
    *("coco_stuff_10k", "coco_stuff_164k", "camvid", "bag"),
)


def open_split(kind: str, root: Path, split: str, complete: bool = True) -> Samples:
    """Images and masks of a split.

    Args:
        kind: one of KINDS.
        root: the data set's folder, as unpacked.
        split: "train", "val", and "test" where the data set has one.
        complete: refuse images without masks; otherwise they are left out, and listed.

    Raises:
        FolderDataError: an unknown kind, or a folder that does not lie as its kind says.
        LabelTableError: a folder without classes.yaml, or with a wrong one.
    """
    samples = _split(kind, root, split)
    if complete:
        samples.check_complete()
    if not samples.images:
        samples.check_complete()
        raise FolderDataError(f"{root} has no labelled image in split {split!r}")
    return samples


def splits_of(kind: str, root: Path) -> list[str]:
    """The splits that a data set of the kind is published with; of `folder` and `bag`, those that are there.

    Raises:
        FolderDataError, LabelTableError: as `open_split`, where there are none.
    """
    if kind == "folder":
        return folder_splits(root)
    if kind == "bag":
        return bag_splits(root) or ["train"]  # whose absence is then what `open_split` tells
    return ["train", "val", "test"] if kind == "camvid" else ["train", "val"]


def _split(kind: str, root: Path, split: str) -> Samples:
    if kind not in KINDS:
        raise FolderDataError(f"data of the kind {kind!r}; expected one of {', '.join(KINDS)}")
    if kind == "folder":
        return folder(root, split)
    if not root.is_dir():
        raise FolderDataError(f"no data at {root}; expected a folder of the kind {kind}")
    if kind == "bag":
        return BagSamples(root, split)
    if kind == "ade20k":
        return ade20k(root, split)
    if kind == "cityscapes":
        return cityscapes(root, split)
    if kind.startswith("pascal_context_"):
        return pascal_context(root, split, int(kind.removeprefix("pascal_context_")))
    if kind == "coco_stuff_10k":
        return coco_stuff_10k(root, split)
    if kind == "coco_stuff_164k":
        return coco_stuff_164k(root, split)
    return camvid(root, split)
