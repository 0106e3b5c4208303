"""What the cameras see: few pictures in a few sizes, each with the labels that a mask of it must show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from seg_perception.bag.frames import FrameSource
from seg_perception.bag.reader import open_bag
from seg_perception.segmenter import Segmenter
from test.seg_perception.tiny_model import GRID, INPUT_SIZE

RECORDING_TOPIC = "/camera/image_raw/compressed"


@dataclass(frozen=True)
class Picture:
    """Uint8 [H, W, 3], RGB, and its classes, uint8 [H, W]."""

    rgb: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Album:
    """A camera's pictures.

    Attributes:
        by_size: (height, width) -> pictures; the first size is the camera's own.
        least_agreement: of a right mask with the labels; that of any other picture is far lower.
    """

    by_size: dict[tuple[int, int], list[Picture]]
    least_agreement: float

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """The first is the camera's own."""
        return list(self.by_size)


def tiny_album(seed: int, count: int = 3, scales: tuple[int, ...] = (4, 5, 8)) -> Album:
    """For the models of `tiny_model`: cells of random classes, which both of its forms tell exactly at these sizes.

    Args:
        seed: of the classes.
        count: of pictures.
        scales: of the model's input size.
    """
    rng = np.random.default_rng(seed)
    by_size: dict[tuple[int, int], list[Picture]] = {}
    grids = [rng.integers(0, 4, GRID).astype(np.uint8) for _ in range(count)]
    blues = [rng.integers(0, 256, GRID).astype(np.uint8) for _ in range(count)]
    for scale in scales:
        size = (scale * INPUT_SIZE[0], scale * INPUT_SIZE[1])
        cell = (size[0] // GRID[0], size[1] // GRID[1])
        by_size[size] = []
        for classes, blue in zip(grids, blues, strict=True):
            cells = np.stack([60 + 140 * (classes & 1), 60 + 140 * (classes >> 1), blue], axis=-1).astype(np.uint8)
            ones = np.ones(cell, np.uint8)
            by_size[size].append(Picture(np.kron(cells, ones[..., None]), np.kron(classes, ones)))
    return Album(by_size, 0.95)


def recorded_album(
    bag: Path, model: Path, first: int, count: int = 2, sizes: tuple[tuple[int, int], ...] = ((480, 640), (360, 480))
) -> Album:
    """Images of a recording, and what a model says of them when nothing disturbs it.

    Args:
        bag: recording.
        model: deployment model.
        first: number of the first image; the others follow at a distance.
        count: of pictures.
        sizes: (height, width) of each.
    """
    frames: list[np.ndarray] = []
    with open_bag(str(bag)) as reader:
        for number, frame in enumerate(FrameSource(reader, RECORDING_TOPIC)):
            if number >= first and (number - first) % 15 == 0:
                frames.append(frame.rgb)
            if len(frames) == count:
                break
    with Segmenter(str(model), "auto", 0, "f32") as segmenter:
        by_size = {}
        for size in sizes:
            images = [cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA) for rgb in frames]
            by_size[size] = [Picture(rgb, segmenter.segment(rgb).labels.copy()) for rgb in images]
    # Shorter floats and JPEG move some edges; two rooms have less than half their pixels in common.
    return Album(by_size, 0.8)
