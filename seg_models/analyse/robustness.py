"""mIoU under corruptions, by group, and what is retained of the clean one (RSSeg, Table 15)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from tqdm import tqdm

from seg_models.data.folder import FolderDataset
from seg_models.evaluation.corruptions import GROUPS, corrupt
from seg_models.evaluation.protocol import Predict
from seg_models.training.metrics import ConfusionMatrix


@dataclass(frozen=True)
class Robustness:
    """A row of Table 15; all in 0..1.

    Attributes:
        clean: mIoU of the images as they are.
        corruptions: mIoU of each corruption, the mean over severities.
        groups: of each group, the mean over its corruptions.
        corrupted: "Corr.", the mean over all corruptions.
        retention: "Rete.", corrupted / clean.
    """

    clean: float
    corruptions: dict[str, float]
    groups: dict[str, float]
    corrupted: float
    retention: float


def miou(predict: Predict, data: FolderDataset, name: str | None, severity: int, seed: int) -> float:
    """Of a data set whose images are corrupted before they are predicted; `name` None: as they are."""
    confusion = ConfusionMatrix(len(data.table.names))
    for index in range(len(data)):
        image, labels = data.read(index)
        if name is not None:
            image = corrupt(image, name, severity, np.random.default_rng((seed, index, severity)))
        predicted = cv2.resize(predict(image), labels.shape[::-1], interpolation=cv2.INTER_NEAREST)
        confusion.add(torch.from_numpy(predicted), torch.from_numpy(labels))
    return confusion.scores().miou


def robustness(
    predict: Predict,
    data: FolderDataset,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    noise_severities: Sequence[int] = (1, 2, 3),
    seed: int = 0,
) -> Robustness:
    """Score a model under every corruption.

    Args:
        predict: uint8 RGB (H, W, 3) -> labels (H, W).
        data: images and masks.
        severities: to average over, each 1 to 5.
        noise_severities: those of the group "noise". The first three, as in the works that Table 15 follows: beyond them
            little is to be seen in images of streets.
        seed: of the corruptions; an image is corrupted alike for every model.
    """
    found = {}
    steps = [(group, name) for group, members in GROUPS.items() for name in members]
    clean = miou(predict, data, None, 0, seed)
    for group, name in tqdm(steps, desc="corruptions", unit="corruption"):
        chosen = noise_severities if group == "noise" else severities
        found[name] = float(np.mean([miou(predict, data, name, severity, seed) for severity in chosen]))
    groups = {group: float(np.mean([found[name] for name in members])) for group, members in GROUPS.items()}
    corrupted = float(np.mean(list(found.values())))
    return Robustness(clean, found, groups, corrupted, corrupted / clean if clean else float("nan"))
