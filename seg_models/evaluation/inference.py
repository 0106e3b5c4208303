"""Predict one image of any size: at once, in sliding windows, or averaged over scales and flips.

The papers' published numbers come from windows of the training crop. They agree on where windows lie and that scores are
averaged where windows overlap; they differ in the stride and in what is done with an image smaller than the window:

                            window   stride               smaller images        source
    Segmenter, evaluation   crop     crop - 32            are upsampled         released evaluation script
    Segmenter, training     512      512                  are upsampled         ADE20K
                            480      320                                        Pascal Context
                            768      512                                        Cityscapes
    RegProxy                512, 640 the window           are zero-padded       ADE20K, L and R50-L with 640
                            768      512                                        Cityscapes
                            480      320                                        Pascal Context: mmsegmentation's default
    SegViT                  640      608                  are taken as they are ADE20K
                            512      341                                        COCO-Stuff-10K
                            480      320                                        Pascal Context
    RSSeg                   crop     not printed          are taken as they are 4.2; pyramids: on Cityscapes
    Superpixel Transformer  none: whole images of 1024x2048                     Table I

Strides that a data set alone decides are to be given (`--stride`): without, they are the window's side, or 32 less for
Segmenter. Scales of multi-scale testing are SCALES; RSSeg on Cityscapes takes the four from 1.0 on (Table 10).

    probabilities = multi_scale(model, rescaled(image, model.normalization, short_side=512), image.shape[:2], windows)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_models.normalization import Normalization, normalize
from seg_models.segmentation_model import SegmentationModel, resize_bilinear

SMALL_INPUTS = ("upsample", "pad", "keep")
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of multi-scale testing in all the papers


@dataclass(frozen=True)
class Windows:
    """Sliding windows.

    Attributes:
        size: side of the square window in pixels.
        stride: step between windows in pixels, at most `size`, so that every pixel is seen.
        small_inputs: for images with a side below `size`: "upsample" the image until its shorter side is `size`, "pad"
            each window with zeros at the bottom and right, or "keep" them (the model takes the smaller window).
    """

    size: int
    stride: int
    small_inputs: str

    def __post_init__(self) -> None:
        if self.small_inputs not in SMALL_INPUTS:
            raise ValueError(f"small_inputs is {self.small_inputs!r}; expected one of {', '.join(SMALL_INPUTS)}")
        if not 1 <= self.stride <= self.size:
            raise ValueError(f"stride is {self.stride}; expected 1 to the window's size, {self.size}")


def segmenter_windows(crop: int = 512, stride: int | None = None) -> Windows:
    """Segmenter's evaluation: windows of the training crop, stride crop - 32 (the default)."""
    return Windows(crop, crop - 32 if stride is None else stride, "upsample")


def regproxy_windows(crop: int = 512, stride: int | None = None) -> Windows:
    """RegProxy's evaluation: ADE20K's stride is the crop (the default); Cityscapes has crop 768 and stride 512."""
    return Windows(crop, crop if stride is None else stride, "pad")


def segvit_windows(crop: int, stride: int) -> Windows:
    """SegViT's evaluation: (640, 608) ADE20K, (512, 341) COCO-Stuff-10K, (480, 320) Pascal Context."""
    return Windows(crop, stride, "keep")


def whole(model: SegmentationModel, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Class scores of a normalised batch (B, 3, H, W) in one pass, resized bilinearly to `size`: (B, K, *size)."""
    with torch.no_grad():
        logits = model(image).logits
    return logits if size is None else resize_bilinear(logits, size)


def sliding_window(
    model: SegmentationModel,
    image: Tensor,
    windows: Windows,
    size: tuple[int, int] | None = None,
    batch_size: int = 1,
) -> Tensor:
    """Class scores averaged over windows.

    Args:
        model: in eval mode.
        image: float (B, 3, H, W), normalised.
        windows: their size, stride and treatment of small images.
        size: (height, width) of the result; None gives the image's.
        batch_size: windows that go through the model at once.

    Returns:
        (B, K, *size). Where the image was upsampled, scores are resized once, from its upsampled size.
    """
    size = (image.shape[-2], image.shape[-1]) if size is None else size
    if windows.small_inputs == "upsample":
        image = upsample_to_window(image, windows.size)
    batch, _, height, width = image.shape
    corners = [
        (top, left)
        for top in window_starts(height, windows.size, windows.stride)
        for left in window_starts(width, windows.size, windows.stride)
    ]
    total = image.new_zeros(batch, model.num_classes, height, width)
    count = image.new_zeros(1, 1, height, width)
    with torch.no_grad():
        for first in range(0, len(corners), batch_size):
            chosen = corners[first : first + batch_size]
            crops = [image[..., top : top + windows.size, left : left + windows.size] for top, left in chosen]
            rows, cols = crops[0].shape[-2:]  # all alike: the last window of a row is moved back, not cut
            inputs = torch.cat(crops)  # (windows * B, 3, rows, cols)
            if windows.small_inputs == "pad":
                inputs = F.pad(inputs, (0, windows.size - cols, 0, windows.size - rows))
            scores = model(inputs).logits[..., :rows, :cols].split(batch)
            for (top, left), part in zip(chosen, scores, strict=True):
                total[..., top : top + rows, left : left + cols] += part
                count[..., top : top + rows, left : left + cols] += 1
    return resize_bilinear(total / count, size)


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side: every stride, the last one moved back to end with the side."""
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def upsample_to_window(image: Tensor, window: int) -> Tensor:
    """Segmenter's rule: enlarge (B, 3, H, W) bilinearly, keeping its shape, until the shorter side is the window's."""
    height, width = image.shape[-2:]
    if min(height, width) >= window:
        return image
    longer = int(max(height, width) / min(height, width) * window)  # rounded down, as released
    size = (window, longer) if height < width else (longer, window)
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False)


def multi_scale(
    model: SegmentationModel,
    images: Sequence[Tensor],
    size: tuple[int, int],
    windows: Windows | None = None,
    flip: bool = True,
    batch_size: int = 1,
) -> Tensor:
    """Class probabilities averaged over several sizes of one image and their mirror images.

    Scores are resized to `size` first, then made probabilities, then averaged, as all the papers' code does.

    Args:
        model: in eval mode.
        images: the same normalised batch at each scale, each (B, 3, H_i, W_i); see `rescaled`.
        size: (height, width) of the result.
        windows: None predicts each image whole.
        flip: also predict each image mirrored left to right.
        batch_size: windows that go through the model at once.

    Returns:
        (B, K, *size), in 0..1, summing to one over the classes.

    Raises:
        ValueError: no image.
    """
    if not images:
        raise ValueError("no image was given; expected at least one scale")
    total: Tensor | None = None
    for image in images:
        for mirrored in (False, True) if flip else (False,):
            view = image.flip(-1) if mirrored else image
            scores = whole(model, view, size) if not windows else sliding_window(model, view, windows, size, batch_size)
            probabilities = (scores.flip(-1) if mirrored else scores).softmax(dim=1)
            total = probabilities if total is None else total + probabilities
    assert total is not None
    return total / (len(images) * (2 if flip else 1))


def rescaled(
    image: np.ndarray,
    normalization: Normalization,
    short_side: int,
    scales: Sequence[float] = SCALES,
    longest_ratio: float = 4.0,
    min_short_side: int = 0,
) -> list[Tensor]:
    """An image at several scales, normalised, as the papers' data pipelines make them.

    Args:
        image: uint8 RGB (H, W, 3).
        normalization: mean and std of the model, 0..255 units.
        short_side: pixels of the shorter side at scale 1, such as 512 for ADE20K.
        scales: factors of `short_side`.
        longest_ratio: the longer side is held to this multiple of the scaled short side (2048 : 512 for ADE20K; 2 for
            Cityscapes).
        min_short_side: no scale makes the shorter side smaller than this: SegViT's 480 (Pascal Context) and 512
            (COCO-Stuff-10K). The longer side is then not held to anything, at no scale, as released. 0 for none.

    Returns:
        for each scale a float tensor (1, 3, h, w).
    """
    height, width = image.shape[:2]
    out = []
    for scale in scales:
        short = short_side * scale
        if min_short_side:
            factor = max(short, min_short_side) / min(height, width)
        else:
            factor = min(short / min(height, width), short * longest_ratio / max(height, width))
        size = (int(width * factor + 0.5), int(height * factor + 0.5))  # cv2's order
        resized = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        out.append(normalize(torch.from_numpy(resized).permute(2, 0, 1)[None], normalization))
    return out
