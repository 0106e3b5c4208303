"""What the pairs of a data set come to: counts of each split, problems, and what splits share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from seg_models.data.check.examine import Problem, examine_split
from seg_models.data.check.leaks import Pair, SharedSequence, near_same, same_pixels, shared_sequences
from seg_models.data.labels import LabelTable, LabelTableError
from seg_models.data.layouts.opening import open_split
from seg_models.data.layouts.samples import FolderDataError, Samples
from seg_models.messages import one_line


@dataclass
class SplitSummary:
    """One split.

    Attributes:
        images: pairs that were looked at.
        pixels: int64 (K,) of each class; shown_in: images that show it.
        unlabelled: pixels without a class.
        blank: images without a labelled pixel.
        sizes: (height, width) of the images, with counts.
        repeated: images that equal an earlier one of this split.
        thumbnails: name and picture of some.
    """

    images: int
    pixels: np.ndarray
    shown_in: np.ndarray
    unlabelled: int = 0
    blank: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    repeated: int = 0
    thumbnails: list[tuple[str, np.ndarray]] = field(default_factory=list)


@dataclass
class DataSummary:
    """A data set.

    Attributes:
        table: its classes.
        splits: in the order in which they were asked for; those that cannot be opened are problems instead.
        problems: in the order in which they were found.
        counts: of the problems by kind, also of those beyond what `problems` keeps.
    """

    root: Path
    kind: str
    table: LabelTable
    splits: dict[str, SplitSummary] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, split: str, message: str) -> None:
        """A problem; of each kind the first KEPT are kept, all are counted."""
        self.counts[kind] += 1
        if self.counts[kind] <= KEPT:
            self.problems.append(Problem(kind, split, one_line(message)))


KEPT = 1000


@dataclass(frozen=True)
class _Known:
    """By what the images of a split are known again."""

    samples: Samples
    digests: Sequence[bytes]
    looks: Sequence[np.ndarray | None]


def check_data(
    kind: str,
    root: Path,
    splits: Sequence[str],
    workers: int,
    thumbnails: int,
    sequences: bool = True,
    step: Callable[[str, int, int], None] = lambda split, done, total: None,
) -> DataSummary:
    """Look at every image and mask of a data set once.

    Args:
        kind, root, splits: see `open_split`.
        workers: processes.
        thumbnails: how many of each split, evenly spaced.
        sequences: whether frames of one video in several splits are a problem.
        step: told the split, images done and images in all.

    Raises:
        FolderDataError: no split can be opened.
        LabelTableError: as `open_split`.
    """
    opened: dict[str, Samples] = {}
    refused: dict[str, FolderDataError] = {}
    for split in splits:
        try:
            opened[split] = open_split(kind, root, split, complete=False)
        except LabelTableError:
            raise
        except FolderDataError as error:
            refused[split] = error
    if not opened:
        raise next(iter(refused.values()))
    summary = DataSummary(root, kind, next(iter(opened.values())).table)
    for split, refusal in refused.items():
        summary.add("split", split, f"cannot be opened: {refusal}")
    known: dict[str, _Known] = {}
    for split, samples in opened.items():
        if kind != "bag":  # in recordings labels are usually fewer than images
            for image in samples.without_mask:
                summary.add("image without mask", split, f"{image} has no mask")
            for mask in samples.masks_without_image():
                summary.add("mask without image", split, f"{mask} has no image")
        known[split] = _split(summary, split, samples, workers, thumbnails, step)
    for one, other in combinations(known, 2):
        _leaks(summary, one, known[one], other, known[other])
    if sequences:
        names = {split: [_frame_name(image) for image in of.samples.images] for split, of in known.items()}
        for sequence in shared_sequences(names, {split: of.looks for split, of in known.items()}):
            summary.add("sequence in several splits", "+".join(sequence.counts), _told(sequence))
    return summary


def _split(
    summary: DataSummary,
    split: str,
    samples: Samples,
    workers: int,
    thumbnails: int,
    step: Callable[[str, int, int], None],
) -> _Known:
    classes = len(samples.table.names)
    of = summary.splits[split] = SplitSummary(len(samples), np.zeros(classes, np.int64), np.zeros(classes, np.int64))
    shown = set(np.linspace(0, len(samples) - 1, min(thumbnails, len(samples))).round().astype(int).tolist())
    digests: list[bytes] = []
    looks: list[np.ndarray | None] = []
    for one in examine_split(samples, workers, shown):
        for kind, message in one.problems:
            summary.add(kind, split, message)
        if one.size is not None:
            of.sizes[one.size] += 1
        if one.pixels is not None:
            of.pixels += one.pixels
            of.shown_in += one.pixels > 0
            of.unlabelled += one.unlabelled
            of.blank += not one.pixels.any()
        if one.thumbnail is not None:
            of.thumbnails.append((samples.images[one.index].name, one.thumbnail))
        digests.append(one.digest)
        looks.append(one.look)
        step(split, one.index + 1, len(samples))
    whole = [digest for digest in digests if digest]
    of.repeated = len(whole) - len(set(whole))
    return _Known(samples, digests, looks)


def _leaks(summary: DataSummary, one: str, first: _Known, other: str, second: _Known) -> None:
    def told(kind: str, pair: Pair, how: str) -> None:
        images = f"{second.samples.images[pair.second]} of {other} {how} {first.samples.images[pair.first]} of {one}"
        summary.add(kind, f"{one}+{other}", images)

    same = same_pixels(first.digests, second.digests)
    for pair in same:
        told("same image", pair, "has the same pixels as")
    known = {pair.second for pair in same}
    for pair in near_same(first.looks, second.looks):
        if pair.second not in known:
            told("near-same image", pair, f"is nearly (correlation {pair.likeness:.4f})")


def _frame_name(image: Path) -> str:
    """Of a recording's frame the recording belongs to it: its number is a time."""
    return image.stem if image.suffix else f"{image.parent.parent}/{image.stem}"


def _told(sequence: SharedSequence) -> str:
    of = ", ".join(f"{count} in {split}" for split, count in sequence.counts.items())
    return f"{sequence.name} is one video by its names and looks, with frames in several splits: {of}"
