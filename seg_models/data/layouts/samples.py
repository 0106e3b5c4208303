"""Images with their masks, whatever they are read from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np

from seg_models.data.image_files import ImageFileError, read_image
from seg_models.data.labels import LabelTable
from seg_models.losses import IGNORE
from seg_models.messages import shown

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
REFUSED = -1  # in a table of ids: a value that no mask of the data set may hold


class FolderDataError(ValueError):
    """Data that is missing, empty, incomplete, laid out otherwise than expected, or labelled outside its classes."""


class LabelIdsError(FolderDataError):
    """A mask with values that are none of its data set's."""


class SizeError(FolderDataError):
    """A mask of another size than its image."""


class Samples(ABC):
    """Images of one split with their masks.

    Attributes:
        table: names and colours of the classes.
        images: where each image is; the stem is its name.
        masks: where each mask is.
        without_mask: where an image is that lacks its mask; it is in neither of the other lists.
    """

    table: LabelTable
    images: list[Path]
    masks: list[Path]
    without_mask: list[Path]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """RGB uint8 (H, W, 3) and labels uint8 (H, W), IGNORE where not labelled.

        Raises:
            FolderDataError: either cannot be read, their sizes differ, or a value is no class.
        """
        image, labels = self.read_image(index), self.read_labels(index)
        self.check_size(index, image, labels)
        return image, labels

    def check_size(self, index: int, image: np.ndarray, labels: np.ndarray) -> None:
        """Raises:
        SizeError: a mask of another size than its image; names it.
        """
        if labels.shape != image.shape[:2]:
            raise SizeError(f"{self.masks[index]} is {labels.shape}, its image {image.shape[:2]}; same size expected")

    @abstractmethod
    def read_image(self, index: int) -> np.ndarray:
        """The image of `read` alone.

        Raises:
            FolderDataError: it cannot be read.
        """

    @abstractmethod
    def read_labels(self, index: int) -> np.ndarray:
        """The labels of `read` alone.

        Raises:
            FolderDataError: they cannot be read; LabelIdsError: a value is no class.
        """

    @abstractmethod
    def masks_without_image(self) -> list[Path]:
        """Where a mask is that lacks its image; looks at all that lies there."""

    @abstractmethod
    def check_complete(self) -> None:
        """Raises:
        FolderDataError: images without masks, where each needs one; names the first.
        """


class PairedFiles(Samples):
    """Image files, each with a mask file. What lacks its counterpart is left out and listed.

    Args:
        table: names and colours of the classes.
        pairs: image and mask of each sample.
        read_mask: file -> integers (H, W).
        ids: int (N,), what a mask's values 0 to N - 1 become: class ids, IGNORE, or REFUSED.
        expected: the values that masks may hold, in words.
        layout: how the data set should lie, for messages.
        all_masks: folder and pattern of the split's masks, where more may lie than have images; None: `pairs` says all.
        listed: the file that names the images, if one does.
    """

    def __init__(
        self,
        table: LabelTable,
        pairs: list[tuple[Path, Path]],
        read_mask: Callable[[Path], np.ndarray],
        ids: np.ndarray,
        expected: str,
        layout: str,
        all_masks: tuple[Path, str] | None = None,
        listed: Path | None = None,
    ) -> None:
        self.table, self.layout, self.listed = table, layout, listed
        self.read_mask, self.ids, self.expected = read_mask, ids, expected
        # Of files that a folder lists the images are there; of those that a list names they may not be.
        lacking = {image for image, _ in pairs if listed is not None and not image.is_file()}
        unlabelled = {mask for _, mask in pairs if not mask.is_file()}
        self.lacking_images, self.lacking_masks = sorted(lacking), sorted(unlabelled)
        self.without_mask = [image for image, mask in pairs if mask in unlabelled and image not in lacking]
        self.unpaired_masks = [mask for image, mask in pairs if image in lacking and mask not in unlabelled]
        self.all_masks, self.count = all_masks, len(pairs)
        whole = [pair for pair in pairs if pair[0] not in lacking and pair[1] not in unlabelled]
        self.images, self.masks = [image for image, _ in whole], [mask for _, mask in whole]

    def masks_without_image(self) -> list[Path]:
        """As the base class."""
        if self.all_masks is None:
            return self.unpaired_masks
        known = {*self.masks, *self.unpaired_masks}
        folder, pattern = self.all_masks
        return [*self.unpaired_masks, *sorted(mask for mask in folder.glob(pattern) if mask not in known)]

    def check_complete(self) -> None:
        """As the base class, and images that a list names and that are not there."""
        if self.lacking_images and self.listed is not None:
            raise FolderDataError(
                f"no image {self.lacking_images[0]}, which {self.listed.name} names; expected {self.layout}"
            )
        if self.lacking_masks:
            raise FolderDataError(
                f"{len(self.lacking_masks)} of {self.count} images have no mask; the first is {self.lacking_masks[0]}; "
                f"expected {self.layout}"
            )

    def read_image(self, index: int) -> np.ndarray:
        """As the base class."""
        try:
            return read_image(self.images[index])
        except ImageFileError as error:
            raise FolderDataError(f"{error}; replace it or delete the pair") from error

    def read_labels(self, index: int) -> np.ndarray:
        """As the base class."""
        try:
            values = self.read_mask(self.masks[index])
        except ImageFileError as error:
            raise FolderDataError(f"{error}; replace it or delete the pair") from error
        return class_ids(values, self.ids, self.expected, self.masks[index])


def class_ids(values: np.ndarray, ids: np.ndarray, expected: str, where: Path) -> np.ndarray:
    """What a mask's values (H, W) mean by a table as in `PairedFiles`: uint8 (H, W).

    Raises:
        LabelIdsError: values that the table refuses or does not reach; names them and `where`.
    """
    inside = values < len(ids)
    labels = ids[np.where(inside, values, 0)]
    refused = (labels == REFUSED) | ~inside
    if refused.any():
        raise LabelIdsError(f"{where} holds ids {shown(np.unique(values[refused]).tolist())}; expected {expected}")
    return labels.astype(np.uint8)


def classes_from_zero(table: LabelTable) -> np.ndarray:
    """Table of ids for masks that hold class ids and the table's ignore_index: int16 (256,)."""
    ids = np.full(256, REFUSED, np.int16)
    ids[: len(table.names)] = np.arange(len(table.names))
    ids[table.ignore_index] = IGNORE
    return ids


def images_in(folder: Path, layout: str) -> list[Path]:
    """Image files of a folder, sorted.

    Args:
        folder: which to look into.
        layout: how the data set should lie, for the message.

    Raises:
        FolderDataError: no such folder, or none in it.
    """
    if not folder.is_dir():
        raise FolderDataError(f"no folder {folder}; expected {layout}")
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise FolderDataError(f"no images in {folder}, files ending in {', '.join(IMAGE_SUFFIXES)}; expected {layout}")
    return images


def split_folder(split: str, folders: dict[str, str], layout: str) -> str:
    """What a data set calls a split.

    Raises:
        FolderDataError: it has no such split; those that it has are listed.
    """
    if split not in folders:
        raise FolderDataError(f"there is no split {shown(split)}; expected one of {', '.join(folders)}, of {layout}")
    return folders[split]


def names_in(path: Path, layout: str) -> list[str]:
    """First words of the lines of a published list.

    Raises:
        FolderDataError: no such file, no text, or nothing in it.
    """
    if not path.is_file():
        raise FolderDataError(f"no list {path}; expected {layout}")
    try:
        names = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise FolderDataError(f"{path} is no text in UTF-8: {error}; expected {layout}") from error
    if not names:
        raise FolderDataError(f"{path} names no images; expected {layout}")
    return names
