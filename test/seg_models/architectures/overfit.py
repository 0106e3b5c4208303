"""Eight small rooms and a training loop: does an architecture learn at all?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from seg_models.losses import IGNORE
from seg_models.normalization import normalize
from seg_models.segmentation_model import SegmentationModel

ROOMS = next(
    (p for p in (Path(__file__).parents[3] / where for where in ("data/rooms", "../shared/data/rooms")) if p.is_dir()),
    None,
)


def drawn_rooms(count: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, int]:
    """Walls, a floor and a few boxes, each class of one colour with noise and shading on it.

    Returns:
        images uint8 (N, H, W, 3), labels int64 (N, H, W), number of classes.
    """
    generator = np.random.default_rng(seed)
    colours = np.array([[200, 190, 170], [110, 80, 60], [60, 90, 160], [150, 60, 60], [70, 140, 80]])
    labels = np.zeros((count, height, width), dtype=np.int64)
    for picture in labels:
        picture[int(height * generator.uniform(0.5, 0.8)) :] = 1
        for _ in range(4):
            top, left = generator.integers(0, height - 16), generator.integers(0, width - 16)
            picture[top : top + generator.integers(12, 32), left : left + generator.integers(12, 32)] = (
                generator.integers(2, len(colours))
            )
    shading = np.linspace(-20, 20, width)[None, None, :, None]
    images = colours[labels] + shading + generator.normal(0, 8, (*labels.shape, 3))
    return images.clip(0, 255).astype(np.uint8), labels, len(colours)


def eight_images(height: int, width: int, zoom: int = 1) -> tuple[np.ndarray, np.ndarray, int]:
    """Eight images of the rooms data set where it lies beside or in the repository, else eight drawn ones.

    Args:
        height, width: of the images.
        zoom: they are the middle of images this many times larger: at 2, half as many boundaries between classes lie
            in them.

    Returns:
        images uint8 (8, height, width, 3), labels int64 (8, height, width), number of classes.
    """
    pictures = sorted((ROOMS / "images/train").glob("*.jpg"))[:8] if ROOMS else []
    if len(pictures) < 8 or ROOMS is None:
        images, masks, _ = drawn_rooms(8, 96, 128)
    else:
        images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in pictures]
        masks = [
            cv2.imread(str(ROOMS / "labels/train" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED) for path in pictures
        ]

    def shrink(picture: np.ndarray, interpolation: int) -> np.ndarray:
        whole = cv2.resize(picture, (zoom * width, zoom * height), interpolation=interpolation)
        top, left = (zoom - 1) * height // 2, (zoom - 1) * width // 2
        return whole[top : top + height, left : left + width]

    labels = np.stack([shrink(mask.astype(np.uint8), cv2.INTER_NEAREST) for mask in masks]).astype(np.int64)
    count = int(labels[labels != IGNORE].max()) + 1
    return np.stack([shrink(image, cv2.INTER_AREA) for image in images]), labels, count


def accuracy_after_training(
    build: Callable[[int, tuple[int, int]], SegmentationModel],
    size: tuple[int, int] = (24, 32),
    steps: int = 200,
    lr: float = 8e-3,
    warm_up: float = 0.1,
    zoom: int = 1,
    seed: int = 0,
) -> float:
    """Pixel accuracy on the eight images that a model was trained on, all of them in every step.

    Args:
        build: (number of classes, image size) -> model.
        size: (H, W) of the images.
        steps, lr, warm_up: see `train`.
        zoom: see `eight_images`.
        seed: of the model's weights.
    """
    images, labels, num_classes = eight_images(*size, zoom)
    torch.manual_seed(seed)
    model = build(num_classes, size)
    return train(model, images, labels, steps, lr, warm_up)


def train(
    model: SegmentationModel,
    pictures: np.ndarray,
    masks: np.ndarray,
    steps: int,
    lr: float,
    warm_up: float = 0.1,
) -> float:
    """Train on all images in every step; returns the pixel accuracy on them after.

    Args:
        model: any.
        pictures: uint8 (N, H, W, 3).
        masks: int64 (N, H, W).
        steps: of AdamW.
        lr: learning rate at its highest; it rises linearly before and falls linearly to zero after.
        warm_up: share of the steps in which it rises.
    """
    model.train()
    images = normalize(torch.from_numpy(pictures).permute(0, 3, 1, 2), model.normalization)  # (N, 3, H, W)
    labels = torch.from_numpy(masks)  # (N, H, W)
    optimizer = torch.optim.AdamW(model.parameters(), lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, pct_start=warm_up, anneal_strategy="linear")
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack(list(model.loss(model(images), labels).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    known = labels != IGNORE
    with torch.no_grad():
        right = model.eval()(images).logits.argmax(1)[known] == labels[known]
    return right.float().mean().item()
