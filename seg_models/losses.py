"""Losses shared by several papers. Labels are int64 with `IGNORE` where a pixel is not labelled."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = 255


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless labels are int64 (B, H, W) in [0, K) or IGNORE, for scores (B, K, H, W).

    On a GPU a label out of range would otherwise end the process with an assertion that names neither it nor K.
    """
    if labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"scores of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)}; expected (B, K, H, W), (B, H, W)"
        )
    if labels.dtype != torch.int64:
        raise ValueError(f"labels of {labels.dtype}; expected torch.int64")
    count = logits.shape[1]
    wrong = labels[(labels != IGNORE) & ((labels < 0) | (labels >= count))]
    if len(wrong):
        raise ValueError(f"label {int(wrong[0])} in the batch; expected 0 to {count - 1}, or {IGNORE} for none")


def top_fraction_cross_entropy(
    logits: Tensor, labels: Tensor, fraction: float = 0.2, class_weights: Tensor | None = None
) -> Tensor:
    """Cross entropy over the hardest pixels of each image (Superpixel Transformer, IV-A: top 20 %).

    Args:
        logits: (B, K, H, W).
        labels: int64 (B, H, W) in [0, K) or IGNORE.
        fraction: share of each image's labelled pixels that counts, in (0, 1]; 1 is the plain mean.
        class_weights: float (K,), what a pixel's loss is multiplied with by its label, before the hardest are chosen.

    Returns:
        scalar: the mean over images of the mean over their hardest pixels. Images without any labelled pixel do not
        count; a batch without any gives 0 (with a gradient of 0).

    Raises:
        ValueError: `fraction` outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}; expected a number in (0, 1]")
    losses = F.cross_entropy(logits.float(), labels, class_weights, ignore_index=IGNORE, reduction="none")
    losses = losses.flatten(1)  # (B, H*W)
    labelled = (labels != IGNORE).flatten(1).sum(1)  # (B,)
    kept = (labelled * fraction).ceil().long()  # (B,)
    # Pixels without a label have loss 0 and so sort last; one sort serves images with different counts.
    hardest = losses.topk(int(kept.max()), dim=1).values if kept.max() > 0 else losses[:, :1]
    rank = torch.arange(hardest.shape[1], device=hardest.device)
    total = (hardest * (rank < kept[:, None])).sum(1)  # (B,)
    return (total / kept.clamp(min=1)).sum() / (kept > 0).sum().clamp(min=1)


def cross_entropy(
    logits: Tensor, labels: Tensor, count_unlabelled: bool = False, class_weights: Tensor | None = None
) -> Tensor:
    """Plain softmax cross entropy, averaged over the batch's pixels.

    Args:
        logits: (B, K, H, W).
        labels: int64 (B, H, W) in [0, K) or IGNORE.
        count_unlabelled: divide by the number of all pixels, as mmsegmentation 0.17 (and so RegProxy) does, instead of
            the number of labelled ones.
        class_weights: float (K,), what a pixel's loss is multiplied with by its label; with a mean of 1 over the data's
            pixels the loss keeps its size.

    Returns:
        scalar; 0 (with a gradient of 0) for a batch without any labelled pixel.

    Raises:
        ValueError: labels of another size than the scores.
    """
    if logits.ndim != 4 or labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"scores of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)}; expected (B, K, H, W), (B, H, W)"
        )
    total = F.cross_entropy(logits.float(), labels, class_weights, ignore_index=IGNORE, reduction="sum")
    count = labels.numel() if count_unlabelled else (labels != IGNORE).sum().clamp(min=1)
    return total / count
