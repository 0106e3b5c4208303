"""Segmenter's class embeddings in two dimensions (Figure 8)."""

from __future__ import annotations

import torch
from torch import Tensor

from seg_models.analyse.errors import AnalysisError
from seg_models.architectures.rsseg.model import RSSeg
from seg_models.architectures.segmenter import MaskTransformer, Segmenter
from seg_models.architectures.segvit.model import AtmModel
from seg_models.segmentation_model import SegmentationModel


def class_embeddings(model: SegmentationModel) -> Tensor:
    """The learned vector of each class, (K, D).

    Raises:
        AnalysisError: a model without.
    """
    if isinstance(model, Segmenter) and isinstance(model.decoder, MaskTransformer):
        return model.decoder.cls_emb[0].detach()
    if isinstance(model, AtmModel):
        return model.decoder.class_tokens.detach()
    if isinstance(model, RSSeg):
        return model.decoder.queries[0].detach()
    raise AnalysisError(f"{type(model).__name__} here learns no vector for each class")


def projected(embeddings: Tensor) -> Tensor:
    """Their two main directions by singular values: (K, D) -> (K, 2), centred; the first has the larger spread.

    The sign of each direction is such that its largest entry is positive, so that two runs look alike.
    """
    centred = (embeddings - embeddings.mean(dim=0)).double()
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    points = u[:, :2] * s[:2]  # (K, 2)
    peaks = points.gather(0, points.abs().argmax(dim=0, keepdim=True))
    return points * torch.where(peaks < 0, -1.0, 1.0)
