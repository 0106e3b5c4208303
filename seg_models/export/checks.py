"""The check before a file is written: ONNX Runtime beside PyTorch on real images, painting included."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from seg_models.data.image_files import ImageFileError, read_image
from seg_models.export.deployment import DeploymentModel, LabelsModel
from seg_models.export.errors import ExportError
from seg_models.ops.painting import PaintingGeometry, paint_association
from seg_models.segmentation_model import AssociationModel, SegmentationModel

CHECKED_IMAGES = 8


class Tolerance(NamedTuple):
    """What an exported file may differ from PyTorch in float32 by.

    Attributes:
        agreement: least share of pixels with the same label, and with the same superpixel.
        confidence: largest difference at any pixel, of 255.
    """

    agreement: float
    confidence: int


TOLERANCES = {
    "float32": Tolerance(0.999, 2),  # the rest are ties that the last bit of a float32 decides
    # Ten bits of a number instead of 23: more ties, and a probability near 0.5 moves by about a hundredth.
    "float16": Tolerance(0.99, 12),
    # Eight bits move the borders between classes and superpixels; what that costs is for mIoU to say, not for this.
    "int8": Tolerance(0.8, 255),
}


def compare(
    model: SegmentationModel,
    deployment: DeploymentModel,
    path: Path,
    images: list[np.ndarray],
    device: torch.device | None = None,
) -> dict[str, float]:
    """Run the file in ONNX Runtime beside PyTorch.

    Args:
        model: as it was trained, in eval mode: what a deployed form folds is checked, too.
        deployment: what was exported.
        path: the file.
        images: RGB uint8 (h, w, 3) of any size.
        device: that PyTorch computes on; None for the model's own.

    Returns:
        label_agreement and superpixel_agreement (share of equal pixels), confidence_difference (largest, of 255).
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    device = next(model.parameters()).device if device is None else device
    trained = LabelsModel(model).eval().to(device)
    equal = owners_equal = pixels = 0
    difference = 0
    inputs = resized(images, model.image_size)
    # Two at once where there are two: the batch is free, and a file that mixed its images up would not be seen by one.
    for batch in (np.stack(inputs[i : i + 2]) for i in range(0, len(inputs), 2)):
        # Without TF32, whose ten bits are not what the file is held against.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            expected = [output.cpu().numpy() for output in trained(torch.from_numpy(batch).to(device))]
        actual = painted(deployment, session.run(list(deployment.outputs), {"image": batch}))
        pixels += expected[0].size
        equal += int((expected[0] == actual[0]).sum())
        # Where two classes tie, their confidences are the same; no pixel is exempt.
        difference = max(difference, int(np.abs(expected[1].astype(int) - actual[1].astype(int)).max()))
        if len(expected) > 2:
            owners_equal += int((expected[2] == actual[2]).sum())
    figures: dict[str, float] = {"label_agreement": equal / pixels, "confidence_difference": difference}
    if len(expected) > 2:
        figures["superpixel_agreement"] = owners_equal / pixels
    return figures


def resized(images: list[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
    """The images at `size` (H, W)."""
    return [cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for image in images]


def painted(deployment: DeploymentModel, outputs: list[np.ndarray]) -> list[np.ndarray]:
    """A file's outputs as those of the form `labels`: uint8 labels, uint8 confidence and, where there are any, superpixels."""
    if deployment.form == "labels":
        return outputs
    model = deployment.model
    assert isinstance(model, AssociationModel)
    geometry = PaintingGeometry(model.image_size, model.superpixel_grid, model.cell, model.feature_cell)
    association, class_logits = (torch.from_numpy(output) for output in outputs)
    return [output.numpy() for output in paint_association(association, class_logits, geometry)]


def require_agreement(figures: dict[str, float], tolerance: Tolerance, count: int) -> None:
    """Raise ExportError where the figures of `compare` on `count` images differ more than the tolerance allows."""
    too_low = [k for k, v in figures.items() if k.endswith("agreement") and v < tolerance.agreement]
    if too_low or figures["confidence_difference"] > tolerance.confidence:
        raise ExportError(
            f"ONNX Runtime and PyTorch disagree on {count} images: {figures}; expected agreements of at least "
            f"{tolerance.agreement} and a difference of at most {tolerance.confidence}; nothing was written"
        )


def read_images(folder: Path, limit: int = CHECKED_IMAGES) -> list[np.ndarray]:
    """Up to `limit` RGB images, evenly spread over a folder and those below it.

    Raises:
        ExportError: no folder, no image in it, or one that cannot be decoded.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise ExportError(f"no .jpg or .png below {folder}; --images needs a folder of real images to check with")
    chosen = np.linspace(0, len(paths) - 1, min(len(paths), limit)).round().astype(int)
    images = []
    for path in (paths[i] for i in chosen):
        try:
            images.append(read_image(path))
        except ImageFileError as error:
            raise ExportError(f"{error}; replace or delete it") from error
    return images
