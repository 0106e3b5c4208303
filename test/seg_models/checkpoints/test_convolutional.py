"""timm's files of convolutional networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from seg_models.build import build_model
from seg_models.checkpoints.convolutional import load_convolutional_backbone
from seg_models.checkpoints.reading import CheckpointError
from seg_models.segmentation_model import SegmentationModel


def released(name: str) -> torch.nn.Module:
    """A network as timm trains it, with a classifier of ten classes, weights that differ from a fresh one's."""
    torch.manual_seed(1)
    return timm.create_model(name, num_classes=10).eval()


def model(name: str) -> SegmentationModel:
    torch.manual_seed(0)
    return build_model("superpixel_transformer", name, 3, (64, 64), width=32).eval()


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "test_efficientnet"])
def test_a_loaded_backbone_gives_the_released_networks_features(name, tmp_path: Path):
    network, own = released(name), model(name)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "net.pth")
    report = load_convolutional_backbone(own, tmp_path / "net.pth")
    assert report.loaded == sum(1 for _ in own.backbone.state_dict())
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, deepest = network.forward_intermediates(image, indices=1)
        expected = deepest[-1] if isinstance(deepest, list) else deepest
        torch.testing.assert_close(own.backbone(image)[-1], expected, atol=1e-5, rtol=1e-4)
    assert any(key.startswith(("fc.", "head.", "classifier.")) for key in report.unused)
    assert all(not key.startswith("backbone.") for key in report.untouched)


def test_a_file_may_lack_the_counters_of_batch_norms(tmp_path: Path):
    own = model("resnet18")
    state = {k: v for k, v in released("resnet18").state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "net.safetensors")
    report = load_convolutional_backbone(own, tmp_path / "net.safetensors")
    counters = [key for key in report.untouched if key.startswith("backbone.")]
    assert counters
    assert all(key.endswith("num_batches_tracked") for key in counters)


@pytest.mark.parametrize(
    ("file", "message"), [("resnet26", "unexpected backbone.network.layer"), ("convnext_atto", "missing")]
)
def test_another_network_is_refused_and_changes_nothing(file, message, tmp_path: Path):
    own = model("resnet18")
    before = {key: value.clone() for key, value in own.state_dict().items()}
    torch.save(released(file).state_dict(), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=message):
        load_convolutional_backbone(own, tmp_path / "net.pth")
    assert all(torch.equal(value, before[key]) for key, value in own.state_dict().items())
    vit = build_model("linear", "vit_tiny_patch16_224", 3, (32, 32), timm_options={"depth": 1})
    with pytest.raises(TypeError, match="the backbone is a TokenBackbone"):
        load_convolutional_backbone(vit, tmp_path / "net.pth")
