"""The class scores inside of a deployment file, at the network's size, whatever its form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch

from seg_models.evaluation.onnx_file import DeploymentFile, open_deployment_file
from seg_models.evaluation.predictors import squeezed
from seg_models.export.confidence import scores_place, with_scores
from seg_models.export.errors import ExportError
from seg_models.ops import neighbourhood as nb

Scores = Callable[[np.ndarray], np.ndarray]  # uint8 RGB (H, W, 3) -> float (K, h, w)
LEAST_AGREEMENT = 0.999  # of the largest score with the file's own labels; the rest are ties


def file_scores(path: Path, proto: onnx.ModelProto) -> Scores | None:
    """What gives the class scores of an image; None where confidence is no softmax over classes.

    Raises:
        ProtocolError: the file cannot be opened.
        ExportError: no scores are found in it.
    """
    place = scores_place(proto)
    if place.kind == "probability":
        return None
    if place.kind == "output":
        file = open_deployment_file(path, content=proto.SerializeToString())
        return lambda image: association_scores(file, image)
    file = open_deployment_file(path, content=with_scores(proto).SerializeToString())
    return lambda image: inner_scores(file, place.tensor, image)


def association_scores(file: DeploymentFile, image: np.ndarray) -> np.ndarray:
    """Of the form `association`: eq. 5 and 6 at the network's size, float32 (K, H, W)."""
    assert file.geometry is not None
    batch = squeezed(image, file.size)[None]
    outputs = file.session.run(["association", "class_logits"], {"image": batch})
    association, class_logits = (torch.from_numpy(output).float() for output in outputs)
    full = nb.upsample_in_cells(nb.mask_border(association), file.geometry.feature_cell, file.geometry.cell)
    mixed = nb.paint(nb.association(full), class_logits, file.geometry.cell)[0]  # (K, R * h, C * w)
    return mixed[:, : file.size[0], : file.size[1]].numpy()


def inner_scores(file: DeploymentFile, tensor: str, image: np.ndarray) -> np.ndarray:
    """Of the form `labels`, opened with its scores as an output: float32 (K, H, W), perhaps less the largest of each pixel.

    Raises:
        ExportError: the tensor's layout is none that the labels follow from.
    """
    batch = squeezed(image, file.size)[None]
    labels, scores = (made[0] for made in file.session.run(["labels", tensor], {"image": batch}))
    best, agreement = None, 0.0
    for candidate in layouts(scores.astype(np.float32), len(file.names), file.size, file.grid):
        share = float((candidate.argmax(axis=0) == labels).mean())
        if share > agreement:
            best, agreement = candidate, share
    if best is None or agreement < LEAST_AGREEMENT:
        raise ExportError(
            f"{file.path} has {tensor} of shape {scores.shape} before its confidence, from which its labels do not follow; "
            "expected a file of seg_models.export"
        )
    return best


def layouts(
    scores: np.ndarray, num_classes: int, size: tuple[int, int], grid: tuple[int, int] | None
) -> list[np.ndarray]:
    """What scores of one image, (K, H, W), (H, W, K) or by cells (R, C, P, K), may look like as (K, H, W)."""
    found = []
    if scores.shape == (num_classes, *size):
        found.append(scores)
    if scores.shape == (*size, num_classes):
        found.append(scores.transpose(2, 0, 1))
    if grid is not None and scores.ndim == 4 and scores.shape[:2] == grid and scores.shape[3] == num_classes:
        pixels = scores.shape[2]
        for height in (h for h in range(1, pixels + 1) if pixels % h == 0):
            cell = (height, pixels // height)
            if grid[0] * cell[0] >= size[0] and grid[1] * cell[1] >= size[1]:
                whole = nb.from_cells(torch.from_numpy(scores)[None], cell)[0].numpy()
                found.append(whole[:, : size[0], : size[1]])
    return found
