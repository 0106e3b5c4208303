"""Transformer models export by the contract: ONNX Runtime and PyTorch agree (the export itself checks that)."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from timm.layers import HybridEmbed, StdConv2dSame
from timm.models.resnetv2 import ResNetV2

from seg_models.build import build_model
from seg_models.data.labels import LabelTable
from seg_models.export import Origin, export_onnx
from test.seg_models.overfit import drawn_rooms, train

SHAPE = {"embed_dim": 32, "depth": 2, "num_heads": 2}


def small_hybrid() -> dict:
    """A hybrid of stride 32 whose stem has one block a stage."""
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
    return SHAPE | {"embed_layer": partial(HybridEmbed, backbone=stem), "patch_size": 1}


@pytest.mark.parametrize(
    ("name", "backbone", "options"),
    [
        ("linear", "beit_base_patch16_224", {}),
        ("segmenter", "vit_tiny_patch16_224", {}),
        ("regproxy", "deit_tiny_distilled_patch16_224", {"region_size": (16, 16), "multi_level": True}),
        ("regproxy_pilot", "vit_tiny_patch16_224", {"patch_size": 8}),
        ("regproxy", "vit_small_patch32_384", {"timm_options": "hybrid"}),
    ],
)
def test_exported_file_agrees_with_the_model(tmp_path, name, backbone, options):
    images, labels, classes = drawn_rooms(4, 60, 90)  # no multiple of the stride: the padding is exported, too
    shape = small_hybrid() if options.get("timm_options") else SHAPE
    model = build_model(name, backbone, classes, (60, 90), **{**options, "timm_options": shape})
    train(model, images, labels, steps=30, lr=3e-3)  # on untrained models every second pixel is a tie
    table = LabelTable(tuple("abcde"), tuple((i, i, i) for i in range(classes)))
    figures = export_onnx(
        model.eval(), table, Origin("m", name, "drawn"), tmp_path / "m.onnx", list(np.asarray(images))
    )
    assert figures["label_agreement"] > 0.999
    assert (tmp_path / "m.onnx").is_file()
