"""Parts of the backbone that keep what ImageNet taught them: a model trained on rendered images alone forgets real ones."""

from __future__ import annotations

from torch import nn

from seg_models.backbones.conv import ConvBackbone
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.recipe import RecipeError


def frozen_parts(model: SegmentationModel, count: int) -> list[nn.Module]:
    """The first parts of a convolutional backbone, in the order of `ConvBackbone.stages`: the stem, then the stages.

    Raises:
        RecipeError: a backbone without such parts, or with fewer.
    """
    if count == 0:
        return []
    if not isinstance(model.backbone, ConvBackbone):
        raise RecipeError(
            f"optimizer.frozen_parts is {count}, which only a convolutional backbone has; "
            f"the model's is a {type(model.backbone).__name__}"
        )
    parts = [part for part, _ in model.backbone.stages()]
    if not 0 < count < len(parts):
        raise RecipeError(
            f"optimizer.frozen_parts is {count}; {model.backbone.name} has {len(parts)}, not all may be frozen"
        )
    return parts[:count]


def freeze_parts(model: SegmentationModel, count: int) -> None:
    """Take the first parts of the backbone out of training. Errors as `frozen_parts`."""
    for part in frozen_parts(model, count):
        part.requires_grad_(False)


def fix_statistics(model: SegmentationModel, count: int, all_norms: bool) -> None:
    """Let batch norms of the backbone normalise by their running statistics, and leave those as they are.

    `nn.Module.train` undoes this, so it is called after each.

    Args:
        model: in training mode.
        count: the norms of so many first parts.
        all_norms: those of the whole backbone.
    """
    for part in [model.backbone] if all_norms else frozen_parts(model, count):
        fix_norms(part)


def fix_norms(part: nn.Module) -> None:
    """Let all batch norms of a module normalise by their running statistics, and leave those as they are."""
    for module in part.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
