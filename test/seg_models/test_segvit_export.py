"""SegViT's forms export by the contract: ONNX Runtime and PyTorch agree (the export itself checks that)."""

from __future__ import annotations

import pytest

from seg_models.build import build_model
from seg_models.data.labels import LabelTable
from seg_models.export import Origin, export_onnx
from test.seg_models.overfit import drawn_rooms, train

VIT = {"embed_dim": 32, "depth": 3, "num_heads": 2}
SWIN = {"embed_dim": 16, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 2, 2), "window_size": 4}


@pytest.mark.parametrize(
    ("name", "backbone", "options"),
    [
        ("segvit", "vit_tiny_patch16_224", {"timm_options": VIT}),
        ("segvit_shrunk", "vit_tiny_patch16_224", {"timm_options": VIT}),
        ("segvit_shrunk", "vit_tiny_patch16_224", {"timm_options": VIT, "query_upsampling": False}),
        ("segvit_shrunk", "vit_tiny_patch16_224", {"timm_options": VIT, "down_sampling": "query_conv"}),
        ("segvit_pyramid", "swin_tiny_patch4_window7_224", {"timm_options": SWIN, "decoder_width": 32}),
    ],
)
def test_exported_file_agrees_with_the_model(tmp_path, name, backbone, options):
    images, labels, classes = drawn_rooms(4, 60, 90)  # no multiple of the stride: the padding is exported, too
    model = build_model(name, backbone, classes, (60, 90), decoder_layers=1, **options)
    train(model, images, labels, steps=20, lr=3e-3)  # on untrained models every second pixel is a tie
    table = LabelTable(tuple("abcde"), tuple((i, i, i) for i in range(classes)))
    figures = export_onnx(model.eval(), table, Origin("m", name, "drawn"), tmp_path / "m.onnx", list(images))
    assert figures["label_agreement"] > 0.999
    assert (tmp_path / "m.onnx").is_file()
