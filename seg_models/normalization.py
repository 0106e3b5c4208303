"""The normalisation of a network's input."""

from __future__ import annotations

import torch
from torch import Tensor

# {"mean": [r, g, b], "std": [r, g, b]} in units of 0..255.
Normalization = dict[str, list[float]]


def normalize(image: Tensor, normalization: Normalization) -> Tensor:
    """RGB (B, 3, H, W), uint8 or float in 0..255 -> float, (image - mean) / std."""
    mean, std = (torch.tensor(normalization[key], device=image.device).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    return (image - mean) / std
