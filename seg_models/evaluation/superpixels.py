"""What superpixels are good for, whatever labels they are given: the measures of Stutz, Hermans and Leibe (2018).

With N labelled pixels, superpixels S_j and the pixels G_i of each class in an image:

    achievable accuracy         sum_j max_i |S_j n G_i| / N                                 (Liu et al., 2011)
    under-segmentation error    sum_i sum_j min(|S_j n G_i|, |S_j - G_i|) / N               (Neubert and Protzel, 2012)
    boundary recall             share of the truth's edge pixels with a superpixel's edge within r      (Martin et al., 2004)
    compactness                 sum_j |S_j| / N * 4 pi |S_j| / perimeter^2, over all pixels             (Schick et al., 2012)
    entropy                     of the classes in a superpixel, in bits, the mean over superpixels      (RegProxy, 5.3)

A figure is the mean over images. Beside a model's superpixels stand the plain cells of their grid and SLIC's, one a cell too: the
SLIC of `architectures/regproxy`, since it gives just as many on the same grid, which scikit-image's only comes near to.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from typing_extensions import Self

from seg_models.architectures.regproxy.slic import owners, slic
from seg_models.evaluation.class_scores import pair_counts, scores_of
from seg_models.evaluation.measures import UNLABELLED, Measure, Sample, joined, labelled_edges, mean_of, shown

SOURCES = ("model", "slic", "cells")
REACH = 0.0025  # of the image's diagonal, as in the paper
MEASURES = (
    *("achievable_accuracy", "undersegmentation_error", "boundary_recall", "compactness"),
    *("entropy_bits", "one_class_share", "superpixels"),
)


class SuperpixelQuality(Measure):
    """The measures of a model's superpixels, and of as many of SLIC's and of a grid.

    Args:
        num_classes: K.
    """

    name = "superpixels"

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.images: dict[int, dict[str, dict[str, float | None]]] = {}
        self.achievable = {source: np.zeros((num_classes, num_classes + 1), np.int64) for source in SOURCES}

    def add(self, sample: Sample) -> None:
        """As the base class.

        Raises:
            ValueError: a prediction without superpixels.
        """
        predicted = sample.predicted
        if predicted.superpixels is None or predicted.grid is None:
            raise ValueError("the model gives no superpixels; leave their measures out")
        grid = predicted.grid
        found = {
            "model": predicted.superpixels.astype(np.int64),
            "slic": slic_superpixels(sample.image, grid, sample.labels.shape),
            "cells": cells(grid, sample.labels.shape),
        }
        self.images[sample.index] = {
            source: superpixel_measures(owner, sample.labels, grid[0] * grid[1], self.num_classes)
            for source, owner in found.items()
        }
        for source, owner in found.items():
            best = contingency(owner, sample.labels, grid[0] * grid[1], self.num_classes).argmax(axis=1)
            self.achievable[source] += pair_counts(sample.labels, best[owner].astype(np.uint8), self.num_classes)

    def merge(self, other: Self) -> None:
        self.images = joined(self.images, other.images)
        for source, counts in self.achievable.items():
            counts += other.achievable[source]

    def figures(self) -> dict[str, Any]:
        images = [found for _, found in sorted(self.images.items())]
        result: dict[str, Any] = {}
        for source in SOURCES:
            result[source] = {
                name: mean_of([value for found in images if (value := found[source][name]) is not None])
                for name in MEASURES
            }
            miou = scores_of(self.achievable[source]).miou
            result[source]["achievable_miou"] = None if math.isnan(miou) else miou
        return result

    def lines(self) -> list[str]:
        shown_measures = (
            "achievable_accuracy",
            "undersegmentation_error",
            "boundary_recall",
            "compactness",
            "entropy_bits",
        )
        return [
            f"superpixels, {source}: "
            + ", ".join(f"{name.replace('_', ' ')} {shown(one[name])}" for name in shown_measures)
            for source, one in self.figures().items()
        ]


def superpixel_measures(owner: np.ndarray, labels: np.ndarray, count: int, num_classes: int) -> dict[str, float | None]:
    """MEASURES of one image; None for what there is nothing to measure on.

    Args:
        owner: int (H, W), superpixel of each pixel, in [0, count).
        labels: uint8 (H, W) in [0, K) or UNLABELLED, which does not count.
        count: of superpixels, those without a pixel included.
        num_classes: K.
    """
    counts = contingency(owner, labels, count, num_classes)
    sizes = counts.sum(axis=1, keepdims=True)  # labelled pixels
    total = int(sizes.sum())
    edges = labelled_edges(labels)
    reach = max(1, round(REACH * math.hypot(*labels.shape)))
    near = cv2.dilate(superpixel_edges(owner).astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    bits = entropies(counts)
    return {
        "achievable_accuracy": float(counts.max(axis=1).sum() / total) if total else None,
        "undersegmentation_error": float(np.minimum(counts, sizes - counts).sum() / total) if total else None,
        "boundary_recall": float(near[edges].mean()) if edges.any() else None,
        "compactness": compactness(owner, count),
        "entropy_bits": float(bits.mean()) if len(bits) else None,
        "one_class_share": float((bits <= 1e-9).mean()) if len(bits) else None,
        "superpixels": float(len(np.unique(owner))),
    }


def contingency(owner: np.ndarray, labels: np.ndarray, count: int, num_classes: int) -> np.ndarray:
    """Labelled pixels by superpixel and class: int64 (count, K); arguments as of `superpixel_measures`."""
    known = labels != UNLABELLED
    pairs = owner[known].astype(np.int64) * num_classes + labels[known]
    return np.bincount(pairs, minlength=count * num_classes).reshape(count, num_classes)


def entropies(counts: np.ndarray) -> np.ndarray:
    """Entropy of the classes in each superpixel that has a labelled pixel: int (count, K) -> float64, in bits."""
    counts = counts[counts.sum(axis=1) > 0]
    share = counts / counts.sum(axis=1, keepdims=True)
    return np.abs(np.sum(share * np.log2(np.where(share > 0, share, 1.0)), axis=1))  # abs: of -0.0


def superpixel_edges(owner: np.ndarray) -> np.ndarray:
    """Pixels of which one of the four neighbours is of another superpixel: (H, W) -> bool (H, W)."""
    edges = np.zeros(owner.shape, bool)
    across, down = owner[:, 1:] != owner[:, :-1], owner[1:] != owner[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def compactness(owner: np.ndarray, count: int) -> float:
    """Schick et al.'s: the mean over pixels of 4 pi A / P^2 of their superpixel, P counted along the pixels' sides, those at the
    image's frame included. A square has pi/4."""
    padded = np.pad(owner.astype(np.int64), 1, constant_values=-1)
    area = np.bincount(owner.ravel(), minlength=count).astype(float)
    perimeter = np.zeros(count)
    inside = padded[1:-1, 1:-1]
    for other in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        perimeter += np.bincount(inside[inside != other], minlength=count)
    present = area > 0
    roundness = 4 * np.pi * area[present] / perimeter[present] ** 2
    return float((area[present] * roundness).sum() / owner.size)


def cells(grid: tuple[int, int], size: tuple[int, ...]) -> np.ndarray:
    """The cells of an even grid (rows, columns) over an image: int64 (H, W), in raster order."""
    rows = np.arange(size[0]) * grid[0] // size[0]
    columns = np.arange(size[1]) * grid[1] // size[1]
    return rows[:, None] * grid[1] + columns


def slic_superpixels(image: np.ndarray, grid: tuple[int, int], size: tuple[int, ...]) -> np.ndarray:
    """SLIC's superpixels, one a cell of a grid.

    Args:
        image: uint8 RGB (h, w, 3), of any size.
        grid: (rows, columns).
        size: (H, W) of the result.

    Returns:
        int64 (H, W), in [0, rows * columns).
    """
    cell = (max(1, -(-size[0] // grid[0])), max(1, -(-size[1] // grid[1])))
    whole = cv2.resize(image, (grid[1] * cell[1], grid[0] * cell[0]), interpolation=cv2.INTER_LINEAR)
    rgb = torch.from_numpy(whole).permute(2, 0, 1)[None].float() / 255
    owner = owners(slic(rgb, cell), cell)[0].numpy().astype(np.uint16)
    return cv2.resize(owner, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int64)
