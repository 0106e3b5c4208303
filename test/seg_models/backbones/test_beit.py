"""BEiT's attention bias by relative position: of other grids, and in an exported graph."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from seg_models.export.deployment import deployment_model
from seg_models.export.graph import deployment_graph
from test.seg_models.backbones.test_vit import BEIT, picture, tiny
from test.seg_models.tiny_models import tiny_model


def test_beit_bias_of_another_grid_is_resized_and_its_class_token_entries_kept():
    backbone = tiny(BEIT, size=(48, 48)).double()
    image = picture(64, 96).double()
    with torch.no_grad():
        # The same bias at every offset stays the same at every size. A softmax sees differences alone, so it may as
        # well be taken off the three entries of the class token.
        for block in backbone.vit.blocks:
            block.attn.relative_position_bias_table[:-3] = 0.7
        constant = backbone(image).taps[-1]
        for block in backbone.vit.blocks:
            block.attn.relative_position_bias_table.sub_(0.7)
        shifted = backbone(image).taps[-1]
    torch.testing.assert_close(constant, shifted, atol=1e-12, rtol=1e-9)  # float64 rounding


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, int]:
    """A tiny BEiT's deployment graph, not yet seen by ONNX Runtime, and the number of its tokens."""
    model = tiny_model("linear", 3, (96, 128), backbone=BEIT).eval()
    file = tmp_path_factory.mktemp("beit") / "model.onnx"
    onnx.save(deployment_graph(deployment_model(model)), str(file))
    return file, 1 + model.backbone.grid[0] * model.backbone.grid[1]


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
def test_an_exported_bias_is_not_made_a_constant_of_every_layer_when_onnx_runtime_loads_the_file(
    exported, tmp_path, level
):
    """A matrix a head and layer over all pairs of tokens: 0.5 GB for BEiT-B at 480x480, and 3.2 GB on the way to it."""
    file, tokens = exported
    loaded = tmp_path / "loaded.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(loaded)
    options.log_severity_level = 3  # that the file written is for this machine alone, which it is
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(str(loaded)).graph
    pairs = [t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1]
    assert pairs
    assert not [t.name for t in pairs if list(t.dims[-2:]) == [tokens, tokens]]
    assert sum(t.ByteSize() for t in pairs) < 1.1 * file.stat().st_size
