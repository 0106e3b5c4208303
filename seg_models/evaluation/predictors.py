"""How an image becomes labels: as a robot does it, or by the papers' test protocols."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from seg_models.evaluation.inference import Windows, multi_scale, rescaled
from seg_models.evaluation.measures import Segmented, nearest
from seg_models.evaluation.protocol import Protocol, check_protocol
from seg_models.ops.painting import PaintingGeometry, paint_association
from seg_models.segmentation_model import AssociationModel, SegmentationModel, resize_bilinear

# uint8 RGB (H, W, 3) -> what a model makes of it, at any size
Predict = Callable[[np.ndarray], Segmented]
CPU = torch.device("cpu")


def squeezed(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image uint8 (H, W, 3) at the network's size, as a robot makes it: halved while it is more than twice too large, then
    resized bilinearly."""
    height, width = size
    while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def geometry_of(model: AssociationModel) -> PaintingGeometry:
    """How the grid of a model lies over its input."""
    return PaintingGeometry(model.image_size, model.superpixel_grid, model.cell, model.feature_cell)


def squeezed_predictor(model: SegmentationModel, device: torch.device = CPU) -> Predict:
    """What a robot makes of an image: squeezed into the network's input, and painted at the image's size by models that paint.

    Args:
        model: in eval mode; it is moved to the device.
        device: that computes.
    """
    model.to(device)
    mean = torch.tensor(model.normalization["mean"], device=device).reshape(1, 3, 1, 1)
    # A factor, as in the deployment model.
    scale = 1.0 / torch.tensor(model.normalization["std"], device=device).reshape(1, 3, 1, 1)

    @torch.inference_mode()
    def predict(image: np.ndarray) -> Segmented:
        pixels = torch.from_numpy(squeezed(image, model.image_size)).to(device)
        batch = (pixels.permute(2, 0, 1)[None].float() - mean) * scale  # (1, 3, H, W)
        if isinstance(model, AssociationModel):
            association, class_logits = model.associate_features(batch)
            return painted(association, class_logits, geometry_of(model), (image.shape[0], image.shape[1]))
        decision = model.decide(batch)
        confidence = (decision.confidence[0] * 255.0).round()
        return segmented(decision.labels[0], confidence, decision.superpixels, model.superpixel_grid)

    return predict


def painted(association: Tensor, class_logits: Tensor, geometry: PaintingGeometry, size: tuple[int, int]) -> Segmented:
    """One image, painted at `size` (H, W); arguments as of `paint_association`."""
    painting = paint_association(association, class_logits, geometry, size)
    return segmented(painting.labels[0], painting.confidence[0], painting.superpixels, geometry.grid)


def segmented(
    labels: Tensor, confidence: Tensor, superpixels: Tensor | None, grid: tuple[int, int] | None
) -> Segmented:
    """From tensors of any device: labels and confidence in 0..255 (H, W), superpixels (1, H, W) or None."""
    owner = None if superpixels is None else superpixels[0].cpu().numpy().astype(np.uint16)
    ids, certain = (x.to(torch.uint8).cpu().numpy() for x in (labels, confidence))
    return Segmented(ids, certain, owner, None if owner is None else grid)


def protocol_predictor(model: SegmentationModel, protocol: Protocol, device: torch.device = CPU) -> Predict:
    """What a model makes of an image, at its size, as the papers' test scripts do it.

    Superpixels are those of a single pass over the whole image; other protocols have none.

    Args:
        model: in eval mode; it is moved to the device.
        protocol: how.
        device: that computes.

    Raises:
        ProtocolError: an unknown mode, or one that a number does not fit.
    """
    check_protocol(protocol)
    if protocol.mode == "resize":
        return squeezed_predictor(model, device)
    model.to(device)
    windows = None
    if protocol.mode == "slide":
        windows = Windows(protocol.window, protocol.stride, protocol.small_inputs)
    once = windows is None and len(protocol.scales) == 1 and not protocol.flip

    @torch.inference_mode()
    def predict(image: np.ndarray) -> Segmented:
        size = (image.shape[0], image.shape[1])
        short = protocol.short_side or min(size)
        ratio = protocol.longest_ratio if protocol.short_side else max(size) / min(size)
        scaled = rescaled(image, model.normalization, short, protocol.scales, ratio, protocol.min_short_side)
        images = [one.to(device) for one in scaled]
        superpixels = grid = None
        if once:
            prediction = model(images[0])
            probabilities = resize_bilinear(prediction.logits, size).softmax(dim=1)  # (1, K, H, W)
            superpixels, grid = prediction.superpixels, grid_of(model, images[0])
        else:
            probabilities = multi_scale(model, images, size, windows, protocol.flip)
        probabilities[:, list(protocol.left_out)] = 0.0
        best = probabilities[0].max(dim=0)
        confidence = (best.values / probabilities[0].sum(dim=0) * 255.0).round()
        found = segmented(best.indices, confidence, superpixels, grid)
        if found.superpixels is None:
            return found
        return found._replace(superpixels=nearest(found.superpixels, size))  # they are of the resized image

    return predict


def grid_of(model: SegmentationModel, image: Tensor) -> tuple[int, int] | None:
    """(rows, columns) of the superpixels of an image (B, 3, H, W) of any size; None for models without."""
    if model.superpixel_grid is None:
        return None
    rows, columns = (
        grid * (-(-side // model.stride)) // (-(-own // model.stride))
        for grid, side, own in zip(model.superpixel_grid, image.shape[-2:], model.image_size, strict=True)
    )
    return rows, columns
