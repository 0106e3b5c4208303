"""The cost of a model: counted as by hand, timed, and the model is as it was."""

from __future__ import annotations

import numpy as np
import torch

from seg_models.evaluation.cost import lines, model_cost, timed
from seg_models.evaluation.predictors import squeezed_predictor
from seg_models.summary import multiply_accumulates
from test.seg_models.tiny_models import tiny_model


def test_a_models_cost_is_counted_and_timed():
    model = tiny_model("superpixel_transformer").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict = squeezed_predictor(model)
    found = model_cost(model, predict, np.zeros((50, 70, 3), np.uint8), torch.device("cpu"))
    assert found["parameters"] == sum(value.numel() for value in model.parameters())
    assert found["multiply_accumulates"] == multiply_accumulates(tiny_model("superpixel_transformer"), (64, 96))
    for key in ("network_ms", "image_ms"):
        assert 0 < found[key]["lowest"] <= found[key]["median"] <= found[key]["highest"]
    assert found["peak_memory_mb"] > 10
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert next(model.parameters()).device.type == "cpu"
    (line,) = lines(found)
    assert f"{found['multiply_accumulates'] / 1e9:.2f} G multiply-accumulates" in line


def test_a_convolutions_products_are_those_counted_by_hand():
    """Four classes more are four linear maps of 32 channels more, on 8 x 12 patches."""
    four, eight = (multiply_accumulates(tiny_model("linear", k), (64, 96)) for k in (4, 8))
    assert eight - four == 4 * 32 * 8 * 12


def test_calls_that_warm_up_do_not_count():
    calls = []
    found = timed(lambda: calls.append(0), 3)
    assert len(calls) == 5
    assert found["lowest"] >= 0
