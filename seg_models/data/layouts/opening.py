"""The one way to a data set on disk: by its kind, root and split."""

from __future__ import annotations

from pathlib import Path

from seg_models.data.layouts.camvid import camvid
from seg_models.data.layouts.folder_layout import folder
from seg_models.data.layouts.samples import FolderDataError, Samples

KINDS = ("folder", "camvid")


def open_split(kind: str, root: Path, split: str) -> Samples:
    """Images and masks of a split.

    Args:
        kind: one of KINDS.
        root: the data set's folder, as unpacked.
        split: "train", "val", and "test" where the data set has one.

    Raises:
        FolderDataError: an unknown kind, or a folder that does not lie as its kind says.
        LabelTableError: a folder without classes.yaml, or with a wrong one.
    """
    if not root.is_dir():
        raise FolderDataError(f"no data at {root}; expected a folder of the kind {kind}")
    if kind == "folder":
        return folder(root, split)
    if kind == "camvid":
        return camvid(root, split)
    raise FolderDataError(f"data of the kind {kind!r}; expected one of {', '.join(KINDS)}")
