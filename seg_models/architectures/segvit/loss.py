"""SegViT's loss (eq. 4), as released: L = class + 20 focal + dice for each supervised output of the decoder.

Class token k stands for class k; there is no matching. A token whose class is absent from the image must say "no object",
with a tenth of the weight, and its mask is left alone. Pixels without a label are outside every mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_models.losses import IGNORE
from seg_models.segmentation_model import resize_bilinear

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0


def present_classes(labels: Tensor, num_classes: int) -> Tensor:
    """Which classes an image has: int64 (B, H, W) in [0, K) or IGNORE -> bool (B, K)."""
    known = torch.where(labels == IGNORE, num_classes, labels)  # (B, H, W)
    present = torch.zeros(labels.shape[0], num_classes + 1, dtype=torch.bool, device=labels.device)
    return present.scatter_(1, known.flatten(1), True)[:, :-1]


def class_loss(class_logits: Tensor, present: Tensor, no_object_weight: float) -> Tensor:
    """Cross entropy of the class tokens: k where class k is present, else "no object".

    Args:
        class_logits: (B, K, K + 1).
        present: bool (B, K).
        no_object_weight: of absent classes; the mean is over the weights.
    """
    classes = present.shape[1]
    target = torch.where(present, torch.arange(classes, device=present.device), classes)  # (B, K)
    weights = torch.ones(classes + 1, device=present.device)
    weights[-1] = no_object_weight
    return F.cross_entropy(class_logits.float().transpose(1, 2), target, weights)


def mask_losses(
    masks: Tensor, labels: Tensor, present: Tensor, sizes: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of the masks of the present classes, averaged over them (over the batches of all processes).

    Args:
        masks: (B, K, h, w), before the sigmoid.
        labels: int64 (B, H, W).
        present: bool (B, K), with P true entries.
        sizes: bilinear resizes on the way to the labels; the last one is cut to (H, W), where the image was padded.

    Returns:
        two scalars, focal and dice; 0 (with a gradient of 0) for a batch without any labelled pixel.
    """
    count = masks_a_process(present)  # before any return: the processes wait for each other there
    image, query = present.nonzero(as_tuple=True)  # (P,), (P,)
    logits = masks.float()[image, query][:, None]  # (P, 1, h, w)
    if len(image) == 0:
        return logits.sum(), logits.sum()
    for size in sizes:
        logits = resize_bilinear(logits, size)
    logits = logits[:, 0, : labels.shape[1], : labels.shape[2]].flatten(1)  # (P, H * W)
    target = (labels[image] == query[:, None, None]).flatten(1).float()  # (P, H * W)
    mask = logits.sigmoid()  # eq. 3

    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = mask * target + (1 - mask) * (1 - target)
    balance = FOCAL_ALPHA * target + (1 - FOCAL_ALPHA) * (1 - target)
    focal = balance * (1 - right) ** FOCAL_GAMMA * entropy  # (P, H * W)

    overlap = 2 * (mask * target).sum(1) + 1  # (P,)
    dice = 1 - overlap / (mask.sum(1) + target.sum(1) + 1)  # (P,)
    return focal.mean(1).sum() / count, dice.sum() / count


def masks_a_process(present: Tensor) -> Tensor:
    """How many masks there are, in training on several processes on average; at least 1.

    Gradients are averaged over the processes. With sums divided by this number, as released, they are those of the mean over
    the masks of all processes, however these are spread. Every process must call this.

    Args:
        present: bool (B, K) of this process.

    Returns:
        float32 scalar.
    """
    count = present.sum(dtype=torch.float32)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(count)
        count = count / torch.distributed.get_world_size()
    return count.clamp(min=1)
