"""Images that stand in two splits: the same, nearly the same, and frames of one video."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

SIDE = 16  # of the grey picture that images are compared by
FAINT = 2.0  # grey levels of standard deviation below which an image has nothing to be known by
NEAR = 0.98  # correlation from which on two images count as nearly the same; how it was chosen: docs/data.md
ROWS = 512  # of the correlation matrix at a time
DRAWN = 4000  # pairs of images that neighbours in a video are held against
VIDEO = 10.0  # percentile of their likeness that neighbours must pass
FRAME = re.compile(r"^(.*?)(\d+)(?:_leftImg8bit)?$")


@dataclass(frozen=True)
class Pair:
    """Two images, by their indices in their splits, and how alike: a correlation, 1 for the same pixels."""

    first: int
    second: int
    likeness: float


@dataclass(frozen=True)
class SharedSequence:
    """Images whose names are those of one video's frames: what comes before the number, and how many each split has."""

    name: str
    counts: dict[str, int]


def look(image: np.ndarray) -> np.ndarray | None:
    """By what an image RGB uint8 (H, W, 3) is known again after resizing and re-encoding: float16 (SIDE * SIDE,) of length 1.

    Its grey values, each the mean of a field, less their mean: the product of two is the correlation of the images, which
    brightness and contrast leave alone. None for an image without contrast.
    """
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    values = grey.astype(np.float32).ravel()
    values -= values.mean()
    length = float(np.linalg.norm(values))
    if length < FAINT * SIDE:
        return None
    return (values / length).astype(np.float16)


def same_pixels(first: Sequence[bytes], second: Sequence[bytes]) -> list[Pair]:
    """Images of two splits with one digest: each of the second with the first that equals it. Empty digests do not count."""
    place: dict[bytes, int] = {}
    for index, digest in enumerate(first):
        if digest:
            place.setdefault(digest, index)
    return [Pair(place[digest], index, 1.0) for index, digest in enumerate(second) if digest in place]


def near_same(first: Sequence[np.ndarray | None], second: Sequence[np.ndarray | None]) -> list[Pair]:
    """Images of the second split with the most alike one of the first, where they correlate by NEAR or more."""
    first_rows, first_looks = _stacked(first)
    second_rows, second_looks = _stacked(second)
    pairs = []
    if not len(first_rows):
        return []
    for start in range(0, len(second_rows), ROWS):
        likeness = second_looks[start : start + ROWS].astype(np.float32) @ first_looks.T  # (R, N)
        best = likeness.argmax(axis=1)
        for row, column in enumerate(best):
            if likeness[row, column] >= NEAR:
                index = int(second_rows[start + row])
                pairs.append(Pair(int(first_rows[column]), index, min(float(likeness[row, column]), 1.0)))
    return pairs


def shared_sequences(
    names: Mapping[str, Sequence[str]], looks: Mapping[str, Sequence[np.ndarray | None]], seed: int = 0
) -> list[SharedSequence]:
    """Videos with frames in several splits.

    Names that differ in their last number alone may be frames of a video, or numbers of a collection. It is a video where
    neighbours by number look alike: the median likeness of neighbours passes that of all but VIDEO percent of random pairs.

    Args:
        names: by split, names of the images without endings; a folder before them belongs to the name.
        looks: by split, of the same images.
        seed: of the random pairs.
    """
    groups: dict[str, list[tuple[int, str, int]]] = {}
    for split, of_split in names.items():
        for index, name in enumerate(of_split):
            found = FRAME.match(name)
            if found and found[1]:
                groups.setdefault(found[1], []).append((int(found[2]), split, index))
    shared = {name: sorted(frames) for name, frames in groups.items() if len({split for _, split, _ in frames}) > 1}
    if not shared:
        return []
    bar = _likeness_of_strangers([one for of_split in looks.values() for one in of_split if one is not None], seed)
    found_ones = []
    for name, frames in sorted(shared.items()):
        along = [looks[split][index] for _, split, index in frames]
        alike = [float(np.dot(a, b)) for a, b in _neighbours(along)]
        if alike and float(np.median(alike)) > bar:
            splits = [split for _, split, _ in frames]
            found_ones.append(
                SharedSequence(name.rstrip("_-"), {split: splits.count(split) for split in dict.fromkeys(splits)})
            )
    return found_ones


def _neighbours(along: Sequence[np.ndarray | None]) -> list[tuple[np.ndarray, np.ndarray]]:
    whole = [one.astype(np.float32) for one in along if one is not None]
    return list(pairwise(whole))


def _likeness_of_strangers(looks: Sequence[np.ndarray], seed: int) -> float:
    """What neighbours' likeness must pass."""
    if len(looks) < 2:
        return 1.0
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, len(looks), (2, DRAWN))
    second = np.where(first == second, (second + 1) % len(looks), second)
    alike = [
        float(np.dot(looks[a].astype(np.float32), looks[b].astype(np.float32)))
        for a, b in zip(first, second, strict=True)
    ]
    return float(np.percentile(alike, 100 - VIDEO))


def _stacked(looks: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
    """Indices of those that are there, int (N,), and they, float16 (N, D)."""
    rows = [index for index, one in enumerate(looks) if one is not None]
    if not rows:
        return np.zeros(0, int), np.zeros((0, SIDE * SIDE), np.float16)
    return np.array(rows), np.stack([one for one in looks if one is not None])
