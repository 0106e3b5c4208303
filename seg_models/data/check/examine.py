"""One image and its mask, read once: what they count, what is wrong with them, and by what they are known again."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import cv2
import numpy as np

from seg_models.data.check.leaks import look
from seg_models.data.layouts.samples import FolderDataError, LabelIdsError, Samples, SizeError
from seg_models.losses import IGNORE
from seg_models.messages import one_line

CHUNK = 16  # images that a process takes at a time
THUMBNAIL = (240, 320)  # pixels, height and width at the most
OVERLAY = 0.5  # share of a class's colour


@dataclass(frozen=True)
class Problem:
    """What is wrong, of which kind (one of KINDS), and where, in one line."""

    kind: str
    split: str
    message: str


# In the order in which they are told; what each means for a data set is in docs/data.md.
PROBLEM_KINDS = (
    *("split", "image without mask", "mask without image", "broken image", "broken mask"),
    *("mask of another size", "ids outside the table", "same image", "near-same image", "sequence in several splits"),
)


@dataclass(frozen=True)
class Examined:
    """What one pair came to.

    Attributes:
        index: in its split.
        problems: kind and message of each; empty where all is well.
        size: height and width of the image, None where it cannot be read.
        digest: of its pixels, 16 bytes, equal for equal images however they are compressed.
        look: see `leaks.look`; None for an image without contrast.
        pixels: int64 (K,) of each class, None where the mask cannot be used.
        unlabelled: pixels without a class.
        thumbnail: RGB uint8 with the classes' colours over it, where it was asked for.
    """

    index: int
    problems: list[tuple[str, str]]
    size: tuple[int, int] | None = None
    digest: bytes = b""
    look: np.ndarray | None = None
    pixels: np.ndarray | None = None
    unlabelled: int = 0
    thumbnail: np.ndarray | None = None


def examine_split(samples: Samples, workers: int, shown: Collection[int] = ()) -> Iterator[Examined]:
    """Every pair of a split in order, read by processes.

    Args:
        samples: the split.
        workers: processes; 1 reads in this one.
        shown: indices of those whose thumbnail is wanted.

    Raises:
        FolderDataError: a process was ended from outside.
    """
    if workers == 1:
        for index in range(len(samples)):
            yield examine(samples, index, shown)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # so that a process starts in milliseconds
    try:
        with ProcessPoolExecutor(workers, context, _begin, (samples, frozenset(shown))) as pool:
            yield from pool.map(_examine, range(len(samples)), chunksize=CHUNK)
    except BrokenProcessPool as error:
        raise FolderDataError(
            f"a process that read images ended: {one_line(error, 200)}; give --workers fewer"
        ) from error


def examine(samples: Samples, index: int, shown: Collection[int] = ()) -> Examined:
    """One pair; what cannot be read is a problem of it, no error."""
    problems: list[tuple[str, str]] = []
    image = labels = None
    try:
        image = samples.read_image(index)
    except FolderDataError as error:
        problems.append(("broken image", str(error)))
    try:
        labels = samples.read_labels(index)
    except LabelIdsError as error:
        problems.append(("ids outside the table", str(error)))
    except FolderDataError as error:
        problems.append(("broken mask", str(error)))
    if image is not None and labels is not None:
        try:
            samples.check_size(index, image, labels)
        except SizeError as error:
            problems.append(("mask of another size", str(error)))
            labels = None
    counts = None if labels is None else np.bincount(labels.ravel(), minlength=IGNORE + 1)
    return Examined(
        index,
        problems,
        None if image is None else (image.shape[0], image.shape[1]),
        b"" if image is None else pixel_digest(image),
        None if image is None else look(image),
        None if counts is None else counts[: len(samples.table.names)].astype(np.int64),
        0 if counts is None else int(counts[IGNORE]),
        None
        if image is None or index not in shown
        else thumbnail(image, labels, np.array(samples.table.palette, np.uint8)),
    )


def pixel_digest(image: np.ndarray) -> bytes:
    """16 bytes that equal images of one size share."""
    return hashlib.blake2b(image.tobytes(), digest_size=16, salt=repr(image.shape[:2]).encode()[:16]).digest()


def thumbnail(image: np.ndarray, labels: np.ndarray | None, palette: np.ndarray) -> np.ndarray:
    """RGB uint8 (h, w, 3) within THUMBNAIL, labelled pixels mixed with the colours of their classes, palette (K, 3)."""
    scale = min(THUMBNAIL[0] / image.shape[0], THUMBNAIL[1] / image.shape[1])
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if labels is None:
        return small
    ids = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    labelled = ids != IGNORE
    small[labelled] = (1 - OVERLAY) * small[labelled] + OVERLAY * palette[ids[labelled]]
    return small


# Of a process of `examine_split`: what it examines, which is sent once and not with every index.
_given: list[tuple[Samples, Collection[int]]] = []


def _begin(samples: Samples, shown: Collection[int]) -> None:
    cv2.setNumThreads(1)
    _given.append((samples, shown))


def _examine(index: int) -> Examined:
    samples, shown = _given[0]
    return examine(samples, index, shown)
