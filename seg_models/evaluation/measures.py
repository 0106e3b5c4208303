"""What a measure is: it looks at one image after the other, and can be joined with that of another process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from typing_extensions import Self

UNLABELLED = 255  # of masks and of predictions


class Segmented(NamedTuple):
    """What a model makes of an image, at one size.

    Attributes:
        labels: uint8 (h, w), class index; UNLABELLED where the scores are broken.
        confidence: uint8 (h, w), probability of that class x 255, rounded: what the deployment file gives.
        superpixels: uint16 (h, w), raster index in a grid; None for a model without superpixels.
        grid: (rows, columns) of that grid; None without superpixels.
    """

    labels: np.ndarray
    confidence: np.ndarray
    superpixels: np.ndarray | None = None
    grid: tuple[int, int] | None = None

    def at_size(self, size: tuple[int, int]) -> Segmented:
        """At `size` (H, W): every pixel has what the nearest pixel centre has, as on a robot."""
        superpixels = None if self.superpixels is None else nearest(self.superpixels, size)
        return Segmented(nearest(self.labels, size), nearest(self.confidence, size), superpixels, self.grid)


def nearest(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Whole numbers (h, w) at `size` (H, W): every pixel has what the nearest pixel centre has."""
    if ids.shape == size:
        return ids
    return cv2.resize(ids, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)


@dataclass(frozen=True)
class Sample:
    """An image with its truth and a prediction.

    Attributes:
        index: in the data set.
        image: uint8 RGB (H, W, 3).
        labels: uint8 (H, W) in [0, K), or UNLABELLED.
        predicted: at the size of `labels`.
    """

    index: int
    image: np.ndarray
    labels: np.ndarray
    predicted: Segmented


class Measure(ABC):
    """Base of all measures.

    What it keeps is whole numbers, or belongs to one image: so it does not matter in which order images came, or to which of
    several processes, and the figures are the same to the last bit.

    Attributes:
        name: key of its figures in the report.
    """

    name: str

    @abstractmethod
    def add(self, sample: Sample) -> None:
        """Look at one image."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take over what another process has seen; no image may be in both."""

    @abstractmethod
    def figures(self) -> dict[str, Any]:
        """In plain JSON types; None for what no pixel was there for."""

    @abstractmethod
    def lines(self) -> list[str]:
        """The same for a terminal, in short."""


def joined(mine: dict[int, Any], others: dict[int, Any]) -> dict[int, Any]:
    """Records of images by index, of two processes, in the order of the index.

    Raises:
        ValueError: an image is in both.
    """
    twice = mine.keys() & others.keys()
    if twice:
        raise ValueError(f"image {min(twice)} was scored by two processes")
    return dict(sorted((mine | others).items()))


def mean_of(values: list[float]) -> float | None:
    """Mean, or None of nothing."""
    return float(np.mean(values)) if values else None


def shown(value: float | None) -> str:
    """A figure with three digits for a terminal."""
    return "none" if value is None else f"{value:.3f}"


def labelled_edges(labels: np.ndarray) -> np.ndarray:
    """Pixels of which one of the four neighbours has another class: (H, W) -> bool (H, W). Pixels without a label have no
    edges, nor are there edges towards them; the frame of the image is none."""
    edges = np.zeros(labels.shape, bool)
    known = labels != UNLABELLED
    across = (labels[:, 1:] != labels[:, :-1]) & known[:, 1:] & known[:, :-1]
    down = (labels[1:] != labels[:-1]) & known[1:] & known[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges
