"""The one constructor: a model by its name, with its backbone injected."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from seg_models.architectures.conv_linear import ConvLinear
from seg_models.architectures.fpn import FPN
from seg_models.architectures.linear import LinearBaseline
from seg_models.architectures.lraspp import LRASPP
from seg_models.architectures.regproxy.model import RegProxy
from seg_models.architectures.regproxy.pilot import RegProxyPilot
from seg_models.architectures.rsseg.model import RSSeg
from seg_models.architectures.rsseg.pyramid import RSSegPyramid
from seg_models.architectures.segmenter import Segmenter
from seg_models.architectures.segvit.model import SegViT, SegViTPyramid
from seg_models.architectures.segvit.shrunk import SegViTShrunk, ShrunkBackbone
from seg_models.architectures.superpixel_transformer.model import SuperpixelTransformer
from seg_models.backbones.conv import ConvBackbone, conv_backbone
from seg_models.backbones.cswin import CSWinBackbone
from seg_models.backbones.swin import SwinBackbone
from seg_models.backbones.vit import TokenBackbone
from seg_models.messages import one_line
from seg_models.quantization import quantize
from seg_models.segmentation_model import SegmentationModel, check_image_size, check_num_classes
from seg_models.training.recipe import Recipe, RecipeError

ARCHITECTURES = (
    "superpixel_transformer",
    "linear",
    "segmenter",
    "regproxy",
    "regproxy_pilot",
    "rsseg",
    "rsseg_pyramid",
    "segvit",
    "segvit_pyramid",
    "segvit_shrunk",
)

# Heads of other papers on the same convolutional backbones, to hold the Superpixel Transformer against.
BASELINES = ("conv_linear", "lraspp", "fpn")

# Options of `superpixel_transformer` and BASELINES that shape the backbone; see `ConvBackbone`.
CONV_OPTIONS = ("gradient_checkpointing",)

# Options of the models on plain transformers that shape the backbone; see `TokenBackbone`.
TOKEN_BACKBONE_OPTIONS = (
    "norm_eps",
    "position_resize",
    "dropout",
    "patch_size",
    "gradient_checkpointing",
    "timm_options",
)

# How SegViT's encoder differs from timm's, plain or shrunk.
SEGVIT_ENCODER: dict[str, Any] = {
    "final_norm": False,
    "keep_class_token_in_encoder": False,
    "drop_path_on_attention": False,
}

# Options of `rsseg_pyramid` that shape the backbone; see `CSWinBackbone`.
CSWIN_OPTIONS = ("gradient_checkpointing", "shape")

# Options of `segvit_pyramid` that shape the backbone; see `SwinBackbone`.
SWIN_OPTIONS = ("levels", "gradient_checkpointing", "timm_options")

# Options of `segvit_shrunk` that shape the backbone, beside TOKEN_BACKBONE_OPTIONS; see `ShrunkBackbone`.
SHRUNK_OPTIONS = ("shrink_at", "down_sampling")


MAX_MODULES = 20_000  # the deepest of the papers' configurations registers fewer than 2,000
MAX_PARAMETERS = 2_000_000_000  # parameters and buffers; the largest of the papers has a fifth of it


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
        name: one of ARCHITECTURES or BASELINES.
        backbone: timm model name.
        num_classes: K.
        image_size: (H, W) of the network's input.
        pretrained: start the backbone from the ImageNet weights of an installed package.
        drop_path_rate: stochastic depth of the backbone's deepest block.
        options: further arguments of the architecture's constructor; on plain transformers also
            TOKEN_BACKBONE_OPTIONS, such as patch_size=8 or gradient_checkpointing=True.

    Raises:
        ModelError: unknown name or option; near ones are listed.
        BackboneError: unknown backbone, or one without the needed feature maps or weights.
        ValueError: a value that the architecture refuses.
    """
    # Here too, not by the model alone: the backbone is built first.
    check_num_classes(num_classes)
    check_image_size(image_size)
    if not 0 <= drop_path_rate < 1:
        raise ModelError(f"drop_path_rate is {drop_path_rate}; expected a number from 0 up to, but not, 1")

    def backbone_arguments(constructor: Callable[..., Any], names: tuple[str, ...]) -> dict[str, Any]:
        """The backbone's options, by `names`, taken out of `options`; what is left must be the constructor's."""
        check_options(constructor, options, names)
        chosen = {option: options.pop(option) for option in names if option in options}
        return {"pretrained": pretrained, "drop_path_rate": drop_path_rate, **chosen}

    def tokens(constructor: Callable[..., Any], **defaults: Any) -> TokenBackbone:
        """The transformer backbone, with its options taken out of `options`; `defaults` are the architecture's own."""
        return TokenBackbone(backbone, image_size, **defaults | backbone_arguments(constructor, TOKEN_BACKBONE_OPTIONS))

    def conv(constructor: Callable[..., Any], *strides: int) -> ConvBackbone:
        """The convolutional backbone with maps at these strides, with its options taken out of `options`."""
        return conv_backbone(backbone, strides, **backbone_arguments(constructor, CONV_OPTIONS))

    if name == "superpixel_transformer":
        pixels = conv(SuperpixelTransformer, 2, 8, 32)
        return SuperpixelTransformer(pixels, num_classes, image_size, **options)
    if name == "linear":
        return LinearBaseline(tokens(LinearBaseline), num_classes, image_size, **options)
    if name == "segmenter":
        return Segmenter(
            tokens(Segmenter, norm_eps=1e-5, position_resize="bilinear"), num_classes, image_size, **options
        )
    if name == "regproxy":
        return RegProxy(tokens(RegProxy), num_classes, image_size, **options)
    if name == "regproxy_pilot":
        return RegProxyPilot(tokens(RegProxyPilot), num_classes, image_size, **options)
    if name == "rsseg":
        return RSSeg(tokens(RSSeg), num_classes, image_size, **options)
    if name == "rsseg_pyramid":
        cswin = CSWinBackbone(backbone, **backbone_arguments(RSSegPyramid, CSWIN_OPTIONS))
        return RSSegPyramid(cswin, num_classes, image_size, **options)
    if name == "segvit":
        plain = tokens(SegViT, **SEGVIT_ENCODER)
        return SegViT(plain, num_classes, image_size, **options)
    if name == "segvit_pyramid":
        swin = SwinBackbone(backbone, image_size, **backbone_arguments(SegViTPyramid, SWIN_OPTIONS))
        return SegViTPyramid(swin, num_classes, image_size, **options)
    if name == "segvit_shrunk":
        arguments = backbone_arguments(SegViTShrunk, TOKEN_BACKBONE_OPTIONS + SHRUNK_OPTIONS)
        shrunk = ShrunkBackbone(backbone, image_size, **SEGVIT_ENCODER, **arguments)
        return SegViTShrunk(shrunk, num_classes, image_size, **options)
    if name == "conv_linear":
        return ConvLinear(conv(ConvLinear, 8, 32), num_classes, image_size, **options)
    if name == "lraspp":
        return LRASPP(conv(LRASPP, 8, 32), num_classes, image_size, **options)
    if name == "fpn":
        return FPN(conv(FPN, 4, 8, 16, 32), num_classes, image_size, **options)
    near = difflib.get_close_matches(name, ARCHITECTURES + BASELINES, n=3, cutoff=0.3) or ARCHITECTURES
    raise ModelError(f"unknown architecture {name!r}; near names: {', '.join(near)}")


def build_from_recipe(recipe: Recipe, num_classes: int, pretrained: bool | None = None) -> SegmentationModel:
    """The recipe's model in float; `pretrained` overrides the recipe's (a checkpoint's weights replace them anyway)."""
    model = recipe.model
    return build_model(
        model.name,
        model.backbone,
        num_classes,
        (model.image_size[0], model.image_size[1]),
        model.pretrained if pretrained is None else pretrained,
        model.drop_path_rate,
        **model.options,
    )


def model_from_recipe(recipe: Recipe, num_classes: int, pretrained: bool | None = None) -> SegmentationModel:
    """The recipe's model: `build_from_recipe`, and with `quantization.layers` its deployed form with these in 8 bits."""
    built = build_from_recipe(recipe, num_classes, pretrained)
    return quantize(built, recipe.quantization.layers) if recipe.quantization.layers else built


def outline_from_recipe(recipe: Recipe, num_classes: int) -> SegmentationModel:
    """The recipe's model on PyTorch's meta device: all names and shapes, nothing allocated, in less than a second.

    What comes of it can be built; a recipe is a file that anybody may have written, and its options reach deep.

    Raises:
        RecipeError: a model that cannot be built, with more than MAX_MODULES parts or MAX_PARAMETERS numbers.
    """
    count = 0

    def limit(owner: nn.Module, name: str, part: nn.Module | None) -> None:
        nonlocal count
        count += 1
        if count > MAX_MODULES:
            raise RecipeError(f"model: more than {MAX_MODULES:,} parts; expected a smaller depth or fewer layers")

    hook = register_module_module_registration_hook(limit)
    try:
        with torch.device("meta"):
            model = model_from_recipe(recipe, num_classes, pretrained=False)
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(f"model: {one_line(error)}") from error
    except Exception as error:  # whatever a network's constructor does with values that are none of its
        raise RecipeError(
            f"model: cannot be built of these values, {type(error).__name__}: {one_line(error, 200)}"
        ) from error
    finally:
        hook.remove()
    empty = [name for name, tensor in model.named_parameters() if tensor.numel() == 0]
    if empty:
        raise RecipeError(f"model: {empty[0]} has no numbers; expected widths and sizes above 0")
    numbers = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    if numbers > MAX_PARAMETERS:
        raise RecipeError(f"model: {numbers:,} numbers; expected at most {MAX_PARAMETERS:,}")
    return model


def check_options(constructor: Callable[..., Any], options: dict[str, Any], further: tuple[str, ...] = ()) -> None:
    """Raise ModelError if an option is neither an argument of the constructor nor one of `further`."""
    known = [p for p in inspect.signature(constructor).parameters if p not in ("backbone", "num_classes", "image_size")]
    known.extend(further)
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=3) or known
            raise ModelError(f"{constructor.__name__} has no option {option!r}; near options: {', '.join(near)}")
