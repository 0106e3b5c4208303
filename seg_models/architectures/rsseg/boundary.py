"""The boundaries that RSSeg's pyramid form learns (Hong et al., 2022, 3.6, eq. 17), and the loss it takes from STDC."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_models.losses import IGNORE

BOUNDARY_TARGETS = ("classes", "laplacian")
STRIDES = (1, 2, 4)  # of STDC's Laplacian, and what each counts in the fused map
SHARES = (0.6, 0.3, 0.1)
THRESHOLD = 0.1


def boundaries(labels: Tensor) -> Tensor:
    """Pixels whose 3x3 neighbourhood holds another class: int64 (B, H, W) -> bool (B, H, W).

    Pixels without a label are no boundary and make none.
    """
    unknown = labels == IGNORE
    values = labels.float()[:, None]  # (B, 1, H, W); class numbers below 2^24 are exact
    top = F.max_pool2d(values.masked_fill(unknown[:, None], -1.0), 3, stride=1, padding=1)
    bottom = -F.max_pool2d(-values.masked_fill(unknown[:, None], 1e6), 3, stride=1, padding=1)
    return ((top > bottom) & ~unknown[:, None])[:, 0]


def laplacian_boundaries(labels: Tensor) -> Tensor:
    """STDC's boundaries (Fan et al., 2021, 3.3): a Laplacian at strides 1, 2 and 4, fused: int64 (B, H, W) -> bool (B, H, W).

    As its code has it: the Laplacian is taken of the class numbers, with zeros around the image, and only its positive side
    counts, so that a boundary lies on the side of the larger number, and along the image's edges. The three maps are
    thresholded, enlarged (nearest) and added with shares of 0.6, 0.3 and 0.1; what is above 0.1 is boundary, so the last
    can only add to the others. Pixels without a label are no boundary; like STDC's, they make some around them.
    """
    values = labels.float()[:, None]  # (B, 1, H, W)
    kernel = values.new_full((1, 1, 3, 3), -1.0)
    kernel[0, 0, 1, 1] = 8.0
    fused = torch.zeros_like(values)
    for stride, share in zip(STRIDES, SHARES, strict=True):
        edges = F.conv2d(values, kernel, stride=stride, padding=1).clamp(min=0) > THRESHOLD
        fused = fused + share * F.interpolate(edges.float(), size=values.shape[-2:], mode="nearest")
    # Halfway between one step of the shares and the next: 0.1 itself is not above 0.1, whatever it is rounded to.
    return ((fused > THRESHOLD + 0.05) & (labels != IGNORE)[:, None])[:, 0]


def boundary_loss(scores: Tensor, labels: Tensor, target_form: str = "classes") -> Tensor:
    """Binary cross entropy plus dice, the loss that 3.6 adopts from STDC (Fan et al., 2021), over the labelled pixels.

    Args:
        scores: (B, 1, H, W), before the sigmoid.
        labels: int64 (B, H, W) with IGNORE.
        target_form: "classes" (`boundaries`) or "laplacian" (`laplacian_boundaries`).

    Returns:
        scalar; 0 (with a gradient of 0) for a batch without any labelled pixel.
    """
    found = laplacian_boundaries(labels) if target_form == "laplacian" else boundaries(labels)
    target = found.float().flatten(1)  # (B, H W)
    known = (labels != IGNORE).float().flatten(1)
    flat = scores.float().flatten(1)
    entropy = F.binary_cross_entropy_with_logits(flat, target, weight=known, reduction="sum") / known.sum().clamp(min=1)
    probability = flat.sigmoid() * known
    overlap = (probability * target).sum(1)  # (B,)
    dice = 1 - (2 * overlap + 1) / (probability.square().sum(1) + target.sum(1) + 1)  # (B,)
    has_label = (known.sum(1) > 0).float()
    return entropy + (dice * has_label).sum() / has_label.sum().clamp(min=1)
