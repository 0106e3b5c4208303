"""The one constructor: a model by its name, with its backbone injected."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from seg_models.backbones import conv_backbone
from seg_models.segmentation_model import SegmentationModel
from seg_models.superpixel_transformer import SuperpixelTransformer

ARCHITECTURES = ("superpixel_transformer",)


class ModelError(ValueError):
    """An unknown architecture or an option that it does not have."""


def build_model(
    name: str,
    backbone: str,
    num_classes: int,
    image_size: tuple[int, int],
    pretrained: bool = False,
    drop_path_rate: float = 0.0,
    **options: Any,
) -> SegmentationModel:
    """Build an architecture on a timm backbone.

    Args:
        name: one of ARCHITECTURES.
        backbone: timm model name.
        num_classes: K.
        image_size: (H, W) of the network's input.
        pretrained: start the backbone from the ImageNet weights of an installed package.
        drop_path_rate: stochastic depth of the backbone's deepest block.
        options: further arguments of the architecture's constructor.

    Raises:
        ModelError: unknown name or option; near ones are listed.
        BackboneError: unknown backbone, or one without the needed feature maps or weights.
        ValueError: a value that the architecture refuses.
    """
    if name == "superpixel_transformer":
        check_options(SuperpixelTransformer, options)
        return SuperpixelTransformer(
            conv_backbone(backbone, (2, 8, 32), pretrained, drop_path_rate), num_classes, image_size, **options
        )
    near = difflib.get_close_matches(name, ARCHITECTURES, n=3, cutoff=0.3) or ARCHITECTURES
    raise ModelError(f"unknown architecture {name!r}; near names: {', '.join(near)}")


def check_options(constructor: Callable[..., Any], options: dict[str, Any]) -> None:
    """Raise ModelError if an option is no argument of the constructor."""
    known = [p for p in inspect.signature(constructor).parameters if p not in ("backbone", "num_classes", "image_size")]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=3) or known
            raise ModelError(f"{constructor.__name__} has no option {option!r}; near options: {', '.join(near)}")
