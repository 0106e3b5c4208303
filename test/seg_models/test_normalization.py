"""Normalising an image."""

from __future__ import annotations

import pytest
import torch

from seg_models.normalization import normalize

IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_each_channel_loses_its_mean_and_is_divided_by_its_deviation(kind):
    image = torch.tensor([200.0, 0.0, 255.0]).reshape(1, 3, 1, 1).expand(2, 3, 4, 5).to(kind)
    result = normalize(image, IMAGENET)
    assert (result.shape, result.dtype) == ((2, 3, 4, 5), torch.float32)
    expected = [(200 - 123.675) / 58.395, -116.28 / 57.12, (255 - 103.53) / 57.375]
    assert result[1, :, 2, 3].tolist() == pytest.approx(expected, rel=1e-6)


def test_the_mean_becomes_exactly_zero():
    mean = torch.tensor(IMAGENET["mean"]).reshape(1, 3, 1, 1)
    assert (normalize(mean, IMAGENET) == 0).all()
