"""Every architecture in a tiny form: the same options on the same small backbone wherever a test needs all of them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timm.layers import HybridEmbed, StdConv2dSame
from timm.models.resnetv2 import ResNetV2

from seg_models.backbones.cswin import CSWinShape
from seg_models.build import build_model
from seg_models.segmentation_model import SegmentationModel

VIT = {"embed_dim": 32, "depth": 3, "num_heads": 2}
ON_VIT: dict[str, Any] = {"backbone": "vit_tiny_patch16_224", "patch_size": 8, "timm_options": VIT}
SWIN = {"embed_dim": 16, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 2, 2), "window_size": 4}
CSWIN = CSWinShape(width=8, depths=(1, 1, 3, 1), heads=(2, 2, 2, 2), stripes=(1, 2, 3))

# Arguments of `build_model` beside the number of classes and the image's size.
TINY: dict[str, dict[str, Any]] = {
    "superpixel_transformer": {"backbone": "test_efficientnet", "width": 32},
    "linear": ON_VIT,
    "segmenter": ON_VIT,
    "regproxy": ON_VIT,
    "regproxy_pilot": ON_VIT,
    "rsseg": ON_VIT | {"sampled_blocks": (0, 1), "local_width": 16},
    "rsseg_pyramid": {"backbone": "cswin_tiny", "shape": CSWIN, "hidden_width": 16},
    "segvit": ON_VIT | {"decoder_layers": 1},
    "segvit_pyramid": {
        "backbone": "swin_tiny_patch4_window7_224",
        "timm_options": SWIN,
        "decoder_width": 32,
        "decoder_layers": 1,
    },
    "segvit_shrunk": ON_VIT | {"decoder_layers": 1},
}


def tiny_model(name: str, num_classes: int = 4, image_size: tuple[int, int] = (64, 96), **options) -> SegmentationModel:
    """An architecture of some 10 000 to 500 000 parameters in training mode, its weights from a fixed seed.

    Args:
        name: one of ARCHITECTURES.
        num_classes: K.
        image_size: (H, W).
        options: further arguments of `build_model`; they replace those of TINY.
    """
    torch.manual_seed(0)
    return build_model(name, num_classes=num_classes, image_size=image_size, **TINY[name] | options)


def hybrid_options() -> dict[str, Any]:
    """timm options that put a ResNet stem of stride 32 with one block a stage before a transformer named ..._patch32_..."""
    stem = ResNetV2(
        layers=(1, 1, 1, 1),
        channels=(128, 128, 128, 128),
        stem_chs=32,
        num_classes=0,
        global_pool="",
        preact=False,
        stem_type="same",
        conv_layer=partial(StdConv2dSame, eps=1e-8),
    )
    return {"embed_layer": partial(HybridEmbed, backbone=stem), "patch_size": 1}
