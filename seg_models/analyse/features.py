"""Feature maps before and behind RSSeg's high-pass filters (Figure 8)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seg_models.analyse.attention import inputs_of
from seg_models.analyse.errors import AnalysisError
from seg_models.architectures.rsseg.model import RSSeg
from seg_models.architectures.rsseg.pyramid import RSSegPyramid
from seg_models.segmentation_model import SegmentationModel


def filtered_features(model: SegmentationModel, image: Tensor) -> dict[str, Tensor]:
    """What goes into and comes out of the local operators of the first and the last separation block.

    Args:
        model: an RSSeg with its pathway, in eval mode.
        image: float (1, 3, H, W), normalised.

    Returns:
        float (h, w), the mean over channels of the absolute values: "first_before", "first_behind", "last_before",
        "last_behind"; Figure 8 b, c and d are the second, third and fourth.

    Raises:
        AnalysisError: a model without such blocks.
    """
    if not isinstance(model, RSSeg | RSSegPyramid) or not model.has_pathway:
        raise AnalysisError(
            f"{type(model).__name__} here has no local separation blocks; expected an RSSeg with its pathway"
        )
    blocks: list[Any] = [model.path.blocks[0], model.path.blocks[-1]]
    maps = {}
    for name, (before, behind) in zip(
        ("first", "last"), inputs_of(model, image, [block.high_pass for block in blocks]), strict=True
    ):
        maps[f"{name}_before"], maps[f"{name}_behind"] = (x[0].abs().mean(dim=0) for x in (before, behind))
    return maps
