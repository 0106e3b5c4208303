"""The configurations of the papers' tables with the figures printed there, and what else is built here.

Entries without a source are not in any table: other backbones and forms that the papers describe. `summary.py` counts all of
them, and a test holds the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from seg_models.build import build_model
from seg_models.segmentation_model import SegmentationModel


@dataclass(frozen=True)
class Configuration:
    """A model of a paper's table.

    Attributes:
        name: unique, in the paper's words.
        architecture, backbone, classes, size, options: arguments of `build_model`; size is (H, W).
        published_params_m: millions of parameters as printed, None where nothing is.
        published_gmac: 1e9 multiply-accumulates as printed (all five papers call them FLOPs), None where nothing is.
        source: table of the figures.
        rule: name of the paper's counting rule in `summary.RULES`, where it is not the common one.
        windows: sliding windows of `size` that the published multiply-accumulates cover.
        note: why a figure here is not the printed one, where they differ by more than 1 % or by rounding.
    """

    name: str
    architecture: str
    backbone: str
    classes: int
    size: tuple[int, int]
    options: dict[str, Any] = field(default_factory=dict)
    published_params_m: float | None = None
    published_gmac: float | None = None
    source: str = ""
    rule: str = "common"
    windows: int = 1
    note: str = ""

    def build(self) -> SegmentationModel:
        """The model, with random weights; under `torch.device("meta")` it takes no memory."""
        return build_model(self.architecture, self.backbone, self.classes, self.size, **self.options)


ADE, CITYSCAPES, CONTEXT, COCO10K = 150, 19, 60, 171  # classes
VIT = {
    size: f"vit_{name}_patch16_384" for size, name in (("Ti", "tiny"), ("S", "small"), ("B", "base"), ("L", "large"))
}
# Why a figure is not the printed one.
CROP = "the row's crop is not printed; 480 is taken, as for the other rows of that data set"
ONE_FIGURE = (
    "the table prints one figure for all patch sizes; this one's patch embedding or position embeddings are larger"
)
HYBRID = (
    "323 M is less than the backbone alone (330 M in Table 2); 82 G is met without the ResNet stem's 33.4 G, which the "
    "same table counts for R26+S"
)
FUSED_PATHS = "the projections of the transformer's features run before they are enlarged (they commute)"
PYRAMID = (
    "the two-layer perceptron's first layer runs before the maps are enlarged (they commute), which saves 42 G; the text "
    "does not say how attention inside stripes was counted"
)
SP_COST = (
    "the first stage is resized to the stride of the pixels before its 1x1 projection (they commute), which saves 8 G at "
    "1024x2048; the text does not say how the rest was counted"
)

DEIT_S, DEIT_B = "deit_small_distilled_patch16_224", "deit_base_distilled_patch16_384"
BEIT_B, BEIT_L = "beit_base_patch16_384", "beit_large_patch16_384"
R26, R50 = "vit_small_r26_s32_384", "vit_large_r50_s32_384"


def linear_baselines() -> Iterator[Configuration]:
    """The baseline that RegProxy, RSSeg and SegViT compare with."""
    for size, crop, params, gmac in (
        ("Ti", 512, 5.7, 3.8),
        ("S", 512, 22.0, 14.9),
        ("B", 512, 86.6, 58.8),
        ("L", 640, 304.3, 325.0),
    ):
        yield Configuration(
            f"Linear ViT-{size}/16, ADE20K",
            "linear",
            VIT[size],
            ADE,
            (crop, crop),
            {},
            params,
            gmac,
            "RegProxy, Table 3",
            "regproxy",
        )
    yield Configuration(
        "Linear ViT-B/16, ADE20K (RSSeg)", "linear", VIT["B"], ADE, (512, 512), {}, 86.6, 107.2, "RSSeg, Table 4"
    )
    yield Configuration(
        "Linear BEiT-B/16, Pascal Context", "linear", BEIT_B, 59, (480, 480), {}, 86.2, 92.1, "RSSeg, Table 4"
    )
    yield Configuration(
        "Linear ViT-L/16, ADE20K (RSSeg)", "linear", VIT["L"], ADE, (640, 640), {}, None, 612, "RSSeg, Table 11"
    )
    yield Configuration("Linear BEiT-L/16, ADE20K", "linear", BEIT_L, ADE, (640, 640), {}, None, 613, "RSSeg, Table 11")


def segmenters() -> Iterator[Configuration]:
    """Segmenter's own text prints the encoders' parameters alone (Table 1); others print the whole model's."""
    encoder = "Segmenter, Table 1: the encoder"
    encoders: tuple[tuple[str, str, int, float | None], ...] = (
        ("S†/16", DEIT_S, 512, 22),
        ("B†/16", DEIT_B, 512, 86),
        ("S/16", VIT["S"], 512, None),
        ("B/32", "vit_base_patch32_384", 512, 86),
        ("B/16", VIT["B"], 512, 86),
        ("B/8", "vit_base_patch8_224", 512, 86),
        ("L/32", "vit_large_patch32_384", 640, 307),
        ("L/16", VIT["L"], 640, 307),
    )
    for name, backbone, size, params in encoders:
        yield Configuration(
            f"Seg-{name}, ADE20K",
            "segmenter",
            backbone,
            ADE,
            (size, size),
            {"decoder": "linear"},
            params,
            None,
            encoder if params else "",
            note=ONE_FIGURE if name in ("B/32", "B/8") else "",
        )
    others, context, rsseg = "RegProxy, Table 4", "RegProxy, Table 6", "RSSeg, Table 9"
    whole: tuple[tuple[str, str, int, int, float | None, float | None, str], ...] = (
        ("Ti-Mask/16, ADE20K", VIT["Ti"], ADE, 512, 6.7, 4.9, others),
        ("S-Mask/16, ADE20K", VIT["S"], ADE, 512, 26, 19, others),
        ("S†-Mask/16, ADE20K", DEIT_S, ADE, 512, None, None, ""),
        ("B-Mask/32, ADE20K", "vit_base_patch32_384", ADE, 512, None, None, ""),
        ("B-Mask/16, ADE20K", VIT["B"], ADE, 512, 103, 76, others),
        ("B-Mask/8, ADE20K", "vit_base_patch8_224", ADE, 512, None, None, ""),
        ("B†-Mask/16, ADE20K", DEIT_B, ADE, 512, None, None, ""),
        ("L-Mask/16, ADE20K", VIT["L"], ADE, 640, 333, 370, others),
        ("B-Mask/16, Pascal Context", VIT["B"], 59, 480, 102, 67, context),
        ("L-Mask/16, Pascal Context", VIT["L"], 59, 480, 333, 210, context),
        ("B-Mask/16, Cityscapes", VIT["B"], CITYSCAPES, 768, 103.4, 350, rsseg),
        ("L-Mask/16, Cityscapes", VIT["L"], CITYSCAPES, 768, 333.2, 1045, rsseg),
    )
    for name, backbone, classes, size, params, gmac, source in whole:
        yield Configuration(
            f"Seg-{name}",
            "segmenter",
            backbone,
            classes,
            (size, size),
            {},
            params,
            gmac,
            source,
            "regproxy" if source in (others, context) else "common",
            note=CROP if source == context else "",
        )
    for name, size, gmac in (("B", 512, 129.6), ("L", 640, 671.8)):
        yield Configuration(
            f"Seg-{name}-Mask/16, ADE20K (SegViT)",
            "segmenter",
            VIT[name],
            ADE,
            (size, size),
            {},
            None,
            gmac,
            "SegViT, Table 1",
        )
    yield Configuration(
        "Seg-L-Mask/16, Pascal Context (SegViT)",
        "segmenter",
        VIT["L"],
        CONTEXT,
        (480, 480),
        {},
        None,
        346.2,
        "SegViT, Table 3",
    )
    yield Configuration(
        "Seg-B-Mask/16, ADE20K, form of the text",
        "segmenter",
        VIT["B"],
        ADE,
        (512, 512),
        {"mask_form": "paper", "token_upsampling": 2},
    )


def regproxies() -> Iterator[Configuration]:
    """RegProxy, Tables 4, 5 and 8."""
    for name, backbone, size, params, gmac, note in (
        ("Ti/16", VIT["Ti"], 512, 5.8, 3.9, ""),
        ("S/16", VIT["S"], 512, 22, 15, ""),
        ("B/16", DEIT_B, 512, 87, 59, ""),
        ("L/16", VIT["L"], 640, 306, 326, ""),
        ("R26+S/32", R26, 512, 36, 16, ""),
        ("R50+L/32", R50, 640, 323, 82, HYBRID),
    ):
        yield Configuration(
            f"RegProxy-{name}, ADE20K",
            "regproxy",
            backbone,
            ADE,
            (size, size),
            {},
            params,
            gmac,
            "RegProxy, Table 4",
            "regproxy",
            note=note,
        )
    for name, layers, backbone, params, city_gmac in (
        ("Ti/16", 3, VIT["Ti"], 6, 69),
        ("S/16", 3, VIT["S"], 23, 270),
        ("B/16", 3, DEIT_B, 88, 1064),
        ("L/16", 6, VIT["L"], 307, None),
    ):
        yield Configuration(
            f"RegProxy-{name}, Cityscapes",
            "regproxy",
            backbone,
            CITYSCAPES,
            (768, 768),
            {"token_head_layers": layers},
            params,
            city_gmac,
            "RegProxy, Table 5",
            "regproxy",
            windows=8,  # of 768 with a stride of 512 over 1024x2048
        )
    for name, backbone, base_params, base_gmac, further in (
        ("Ti/16", VIT["Ti"], 5.8, 3.9, ((1, 0.0, 0.0), (2, 0.0, 0.0), (8, 0.1, 0.1), (16, 0.4, 0.4))),
        ("S/16", VIT["S"], 22.2, 15.1, ((1, 0.0, 0.0), (2, 0.0, 0.0), (8, 0.2, 0.2), (16, 0.9, 0.8))),
        ("R26+S/32", R26, 36.3, 16.2, ((1, 0.0, 0.0), (2, 0.0, 0.0), (8, 0.2, 0.2), (16, 0.9, 0.3))),
    ):
        for side, more_params, more_gmac in further:
            yield Configuration(
                f"RegProxy-{name}, regions of {side}x{side}",
                "regproxy",
                backbone,
                ADE,
                (512, 512),
                {"region_size": (side, side)},
                round(base_params + more_params, 1),
                round(base_gmac + more_gmac, 1),
                "RegProxy, Table 8",
                "regproxy",
            )
    for letter, backbone, params, gmac in (("B", DEIT_B, 87, 52), ("L", VIT["L"], 305, 183)):
        yield Configuration(
            f"RegProxy-{letter}/16, Pascal Context",
            "regproxy",
            backbone,
            59,
            (480, 480),
            {},
            params,
            gmac,
            "RegProxy, Table 6",
            "regproxy",
        )
    for convolution, params, gmac in (("none", 22.1, 15.0), ("full", 23.4, 16.3)):
        yield Configuration(
            f"RegProxy-S/16, 3x3 convolution: {convolution}",
            "regproxy",
            VIT["S"],
            ADE,
            (512, 512),
            {"affinity_conv": convolution},
            params,
            gmac,
            "RegProxy, Table 9",
            "regproxy",
        )
    yield Configuration(
        "RegProxy-S/16, three levels",
        "regproxy",
        VIT["S"],
        ADE,
        (512, 512),
        {"multi_level": True},
        source="RegProxy, Table 12",
    )
    yield Configuration(
        "RegProxy pilot, ViT-S/16", "regproxy_pilot", VIT["S"], ADE, (512, 512), source="RegProxy, Table 1"
    )


def segvits() -> Iterator[Configuration]:
    """SegViT, Tables 1, 2, 3, 6 and 8. No table prints parameters."""
    for name, architecture, backbone, classes, size, options, gmac, table in (
        ("SegViT-B, ADE20K", "segvit", VIT["B"], ADE, 512, {}, 120.9, 1),
        ("SegViT-B single, ADE20K", "segvit", VIT["B"], ADE, 512, {"taps": (11,)}, 115.8, 8),
        ("SegViT-L, ADE20K", "segvit", VIT["L"], ADE, 640, {}, 637.9, 1),
        ("SegViT-L, COCO-Stuff-10K", "segvit", VIT["L"], COCO10K, 512, {}, 383.9, 2),
        ("SegViT-L, Pascal Context", "segvit", VIT["L"], CONTEXT, 480, {}, 321.6, 3),
        ("SegViT on Swin-T, ADE20K", "segvit_pyramid", "swin_tiny_patch4_window7_224", ADE, 512, {}, 48.0, 6),
        ("Shrunk SegViT-L, ADE20K", "segvit_shrunk", VIT["L"], ADE, 640, {}, 373.5, 1),
        ("Shrunk SegViT-L, COCO-Stuff-10K", "segvit_shrunk", VIT["L"], COCO10K, 512, {}, 224.8, 2),
        ("Shrunk SegViT-L, Pascal Context", "segvit_shrunk", VIT["L"], CONTEXT, 480, {}, 186.9, 3),
        ("Shrunk SegViT-B, ADE20K", "segvit_shrunk", VIT["B"], ADE, 512, {}, 97.1, 8),
        ("Naive Shrunk SegViT-B, ADE20K", "segvit_shrunk", VIT["B"], ADE, 512, {"query_upsampling": False}, 74.1, 8),
    ):
        yield Configuration(
            name, architecture, backbone, classes, (size, size), options, None, gmac, f"SegViT, Table {table}"
        )
    for down_sampling in ("query_conv", "all_nearest"):
        yield Configuration(
            f"Shrunk SegViT-L, {down_sampling}",
            "segvit_shrunk",
            VIT["L"],
            ADE,
            (640, 640),
            {"down_sampling": down_sampling},
            source="SegViT, Table 7",
        )


def rssegs() -> Iterator[Configuration]:
    """RSSeg, Tables 4, 5, 9 and 11."""
    for name, backbone, classes, size, options, params, gmac, table, note in (
        ("RSSeg ViT-B, ADE20K", VIT["B"], ADE, 512, {}, 99.8, 127.5, 4, ""),
        ("RSSeg ViT-B, two paths alone", VIT["B"], ADE, 512, {"separations": 0}, 99.7, 129.5, 4, FUSED_PATHS),
        ("RSSeg ViT-B, one SASM", VIT["B"], ADE, 512, {"separations": 1}, 99.7, 127.0, 5, ""),
        ("RSSeg ViT-B, one group", VIT["B"], ADE, 512, {"groups": 1}, 99.5, 126.9, 5, ""),
        ("RSSeg BEiT-B, Pascal Context", BEIT_B, 59, 480, {}, 99.5, 109.0, 4, ""),
        ("RSSeg BEiT-B, two paths alone", BEIT_B, 59, 480, {"separations": 0}, 99.4, 110.8, 4, FUSED_PATHS),
        ("RSSeg ViT-B, Cityscapes", VIT["B"], CITYSCAPES, 768, {}, 100.7, 338, 9, FUSED_PATHS),
        ("RSSeg ViT-L, Cityscapes", VIT["L"], CITYSCAPES, 768, {}, 330.1, 1039, 9, ""),
        ("RSSeg ViT-L, ADE20K", VIT["L"], ADE, 640, {}, None, 670, 11, ""),
        ("RSSeg BEiT-L, ADE20K", BEIT_L, ADE, 640, {}, None, 670, 11, ""),
    ):
        yield Configuration(
            name,
            "rsseg",
            backbone,
            classes,
            (size, size),
            options,
            params,
            gmac,
            f"RSSeg, Table {table}",
            note=note,
        )
    for name, backbone, params, gmac in (("T", "cswin_tiny", 23.2, 170), ("S", "cswin_small", 36.3, 262)):
        yield Configuration(
            f"RSSeg CSWin-{name}, Cityscapes",
            "rsseg_pyramid",
            backbone,
            CITYSCAPES,
            (1024, 1024),
            {},
            params,
            gmac,
            "RSSeg, Table 9",
            note=PYRAMID,
        )


def superpixel_transformers() -> Iterator[Configuration]:
    """The Superpixel Transformer, Tables I to III, and the small backbones that a robot wants."""
    for name, backbone, options, params, gmac, table in (
        ("ResNet-50, 1 layer, 32x64", "resnet50", {"cross_attention_layers": 1}, 28, 234, "III"),
        ("ResNet-50, 16x32", "resnet50", {"superpixel_stride": 64}, 29, 240, "III"),
        ("ResNet-50, 32x64", "resnet50", {}, 29, 253, "I and III"),
        ("ResNet-50, 64x128", "resnet50", {"superpixel_stride": 16}, 31, 404, "III"),
        ("ConvNeXt-L, 32x64", "convnext_large", {}, 202, 1557, "I"),
    ):
        yield Configuration(
            f"SP-Transformer {name}, Cityscapes",
            "superpixel_transformer",
            backbone,
            CITYSCAPES,
            (1024, 2048),
            options,
            params,
            gmac,
            f"SP-Transformer, Table {table}",
            note=SP_COST,
        )
    ade = {"pixel_stride": 4, "superpixel_stride": 16}
    yield Configuration(
        "SP-Transformer ResNet-50, ADE20K",
        "superpixel_transformer",
        "resnet50",
        ADE,
        (640, 640),
        ade,
        29,
        78,
        "SP-Transformer, Table II",
        note=SP_COST,
    )
    yield Configuration(
        "SP-Transformer ConvNeXt-L, ADE20K", "superpixel_transformer", "convnext_large", ADE, (640, 640), ade
    )
    for backbone in (
        "tf_efficientnet_lite0",
        "mobilenetv4_conv_small",
        "mobilenetv4_conv_medium",
        "convnext_atto",
        "convnext_femto",
        "resnet18",
    ):
        yield Configuration(
            f"SP-Transformer {backbone}, 384x512",
            "superpixel_transformer",
            backbone,
            16,
            (384, 512),
            {"width": 192},
        )


CONFIGURATIONS: tuple[Configuration, ...] = (
    *linear_baselines(),
    *segmenters(),
    *regproxies(),
    *segvits(),
    *rssegs(),
    *superpixel_transformers(),
)
