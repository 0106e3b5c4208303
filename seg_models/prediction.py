"""What every segmentation model returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Prediction:
    """Output of a model's forward pass.

    Attributes:
        logits: float (B, K, H, W), class scores before the softmax, at the size of the image that was given.
        superpixels: int64 (B, H, W), raster index of the owning superpixel; None for models without superpixels and
            in training mode, where nobody needs it.
        aux: further scores that the model's own loss supervises, by name.
    """

    logits: Tensor
    superpixels: Tensor | None = None
    aux: dict[str, Tensor] = field(default_factory=dict)
