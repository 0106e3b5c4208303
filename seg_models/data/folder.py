"""Images and masks of one split as a PyTorch data set, and its loaders; where they lie says `layouts`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from seg_models.data.layouts.opening import open_split
from seg_models.data.layouts.samples import FolderDataError, Samples
from seg_models.data.loading_speed import TimedSamples
from seg_models.messages import one_line

# (RGB uint8 (H, W, 3), labels uint8 (H, W), generator) -> the same kinds at the network's size
Transform = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def read_names(path: str | Path) -> frozenset[str]:
    """Names of images, a line each; empty lines and what follows a # are left out.

    Raises:
        FolderDataError: no such file, or one that is no text.
    """
    path = Path(path)
    if not path.is_file():
        raise FolderDataError(f"no list of images at {path}; expected a text file, the name of an image in each line")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FolderDataError(
            f"{path} is no text in UTF-8: {error}; expected the name of an image in each line"
        ) from error
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return frozenset(line for line in lines if line)


class FolderDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images and index masks of one split, of one folder or of several with the same classes.

    Args:
        roots: data sets on disk.
        split: "train", "val", or what else they have.
        transform: applied to each pair; None leaves it as it is.
        seed: with the epoch and the index it seeds the transform's generator, so that a run can be repeated whatever
            the number of loader workers (see `EpochShuffle`).
        excluded: names, without their endings, of images that are left out.
        kind: how the data sets lie on disk, one of `layouts.opening.KINDS`.

    Attributes:
        table: names and colours of the classes.
        images, masks: where each pair is.

    Raises:
        FolderDataError: no such folder or split, no images, an image without its mask, folders whose classes differ, or an
            excluded image that is not there.
        LabelTableError: a folder without classes.yaml, or with a wrong one.
    """

    def __init__(
        self,
        roots: Sequence[str | Path],
        split: str,
        transform: Transform | None = None,
        seed: int = 0,
        excluded: Collection[str] = (),
        kind: str = "folder",
    ) -> None:
        self.transform, self.seed = transform, seed
        sources = [open_split(kind, Path(root), split) for root in roots]
        self.table = sources[0].table
        self.places: list[tuple[Samples, int]] = []
        for root, source in zip(roots, sources, strict=True):
            if source.table.names != self.table.names:
                raise FolderDataError(f"{root} has other classes than {roots[0]}; folders used together need the same")
            self.places += [(source, i) for i, image in enumerate(source.images) if image.stem not in excluded]
        found = {image.stem for source in sources for image in source.images}
        unknown = sorted(set(excluded) - found)
        if unknown:
            raise FolderDataError(
                f"{len(unknown)} of {len(excluded)} excluded images are not in split {split!r}; the first is {unknown[0]!r}"
            )
        self.images = [source.images[i] for source, i in self.places]
        self.masks = [source.masks[i] for source, i in self.places]

    def keep(self, chosen: Sequence[int]) -> None:
        """Leave out all but the images of these indices; they are counted anew, in this order."""
        self.places = [self.places[i] for i in chosen]
        self.images = [self.images[i] for i in chosen]
        self.masks = [self.masks[i] for i in chosen]

    def __len__(self) -> int:
        return len(self.places)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The untouched pair: RGB uint8 (H, W, 3) and labels uint8 (H, W) with IGNORE where not labelled.

        Raises:
            FolderDataError: a file that cannot be decoded, sizes that differ, or an id that is no class.
        """
        source, place = self.places[index]
        return source.read(place)

    def read_labels(self, index: int) -> np.ndarray:
        """The labels of `read` alone, which is quicker."""
        source, place = self.places[index]
        return source.read_labels(place)

    def __getitem__(self, key: int) -> tuple[Tensor, Tensor]:
        """Image (3, H, W), uint8 unless the transform says otherwise, and int64 labels (H, W), transformed.

        The key is epoch * len(self) + index.
        """
        epoch, index = divmod(key, len(self))
        image, labels = self.read(index)
        if self.transform is not None:
            image, labels = self.transform(image, labels, np.random.default_rng((self.seed, epoch, index)))
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.from_numpy(labels).long()


class EpochShuffle(Sampler[int]):
    """Shuffled keys of a FolderDataset, a new order and new augmentations each epoch, the same again from the same seed.

    Args:
        size: images of the data set.
        seed: of the order.
        rank, world: this process and the number of processes, each of which gets its own share of every epoch.
        chances: probability of each image, float (size,): an epoch then draws `size` images anew by them, some of them
            several times. None: each image once.
        multiple: a process's share of an epoch is cut to a multiple of this, such as the images of a step.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        chances: np.ndarray | None = None,
        multiple: int = 1,
    ) -> None:
        self.chances, self.multiple = chances, multiple
        self.size, self.seed, self.rank, self.world = size, seed, rank, world
        self.epoch = 0
        self.start = 0  # keys of the next iteration that are left out, for a run that goes on in mid-epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // self.world // self.multiple * self.multiple

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        if self.chances is None:
            order = generator.permutation(self.size)
        else:
            order = generator.choice(self.size, self.size, p=self.chances)
        share = order[self.rank : len(self) * self.world : self.world][self.start :]
        self.start = 0
        return iter((self.epoch * self.size + share).tolist())


class FolderLoader(DataLoader[Any]):
    """A loader whose processes' errors are the line that a FolderDataset raised, not the text of their traceback."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Batches.

        Raises:
            FolderDataError: what the data set refuses, or a process that was ended from outside.
        """
        try:
            yield from super().__iter__()
        except FolderDataError as error:
            # PyTorch raises the error of a process anew with the whole traceback as its text, at whose end it stands.
            raise FolderDataError(str(error).rpartition(f"{FolderDataError.__name__}: ")[2].strip()) from error
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise FolderDataError(
                f"a loader process ended: {one_line(error, 200)}; lower data.workers or data.batch_size, or give the "
                "machine more (shared) memory"
            ) from error


class ResumableLoader(FolderLoader):
    """A loader over an EpochShuffle that a checkpoint can hold: a resumed epoch goes on with the batch after it.

    Args:
        data: the data set.
        sampler: gives the keys; its `start` is set when a state is loaded.
        arguments: as DataLoader's; `batch_size` is needed.

    Attributes:
        samples: the data set with its times.
        waited_s: seconds that batches were waited for, so far.
    """

    def __init__(self, data: FolderDataset, sampler: EpochShuffle, batch_size: int, **arguments: Any) -> None:
        self.samples = TimedSamples(data, arguments.get("num_workers", 0))
        super().__init__(self.samples, sampler=sampler, batch_size=batch_size, **arguments)
        self.waited_s = 0.0
        self.shuffle = sampler
        self.keys_per_batch = batch_size
        self.skipped = self.served = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Batches of one epoch, or of the rest of it after `load_state_dict`."""
        self.served, self.skipped = self.skipped, 0
        self.shuffle.start = self.served * self.keys_per_batch
        batches = super().__iter__()
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - start
            if batch is None:
                return
            self.served += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many batches of the current epoch were handed out."""
        return {"served": self.served % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration begin after that many batches."""
        self.skipped = state["served"]
