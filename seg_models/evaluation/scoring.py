"""The score of a data set."""

from __future__ import annotations

import cv2
import torch
from tqdm import tqdm

from seg_models.data.folder import FolderDataset
from seg_models.evaluation.protocol import Predict
from seg_models.training.metrics import ConfusionMatrix


def evaluate(predict: Predict, data: FolderDataset, show_progress: bool = True) -> ConfusionMatrix:
    """Score every image of a data set at the size of its mask (labels of another size are resized to the nearest)."""
    confusion = ConfusionMatrix(len(data.table.names))
    for index in tqdm(range(len(data)), desc="evaluate", unit="image", disable=not show_progress):
        image, labels = data.read(index)
        predicted = cv2.resize(predict(image), labels.shape[::-1], interpolation=cv2.INTER_NEAREST)
        confusion.add(torch.from_numpy(predicted), torch.from_numpy(labels))
    return confusion
