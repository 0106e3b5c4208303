"""Tensors that are no grid are refused like any others that do not fit, not resized."""

from __future__ import annotations

import pytest
import torch

from seg_models.checkpoints.fitting import strict_load
from seg_models.checkpoints.reading import CheckpointError
from test.seg_models.tiny_models import tiny_model


@pytest.mark.parametrize("shape", [(1, 32, 5, 5), (1, 32, 0, 0)], ids=["integers", "empty"])
def test_a_grid_that_cannot_be_resized_is_refused_with_its_name(shape: tuple[int, ...]) -> None:
    model = tiny_model("superpixel_transformer")
    state = model.state_dict()
    width = state["queries"].shape[1]
    state["queries"] = torch.ones(shape[0], width, *shape[2:], dtype=torch.int64 if shape[2] else torch.float32)
    with pytest.raises(CheckpointError, match="queries"):
        strict_load(model, state)
