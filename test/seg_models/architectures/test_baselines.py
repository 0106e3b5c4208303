"""Heads of other papers on convolutional backbones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from seg_models.build import BASELINES, ModelError, build_model
from seg_models.segmentation_model import SegmentationModel

SMALL: dict[str, dict[str, Any]] = {
    "conv_linear": {},
    "lraspp": {"width": 24},
    "fpn": {"width": 24, "branch_width": 16, "groups": 4},
}
every_baseline = pytest.mark.parametrize("name", BASELINES)


def small(name: str, classes: int = 4) -> SegmentationModel:
    torch.manual_seed(0)
    return build_model(name, "test_efficientnet", classes, (64, 96), **SMALL[name])


@every_baseline
@pytest.mark.parametrize("size", [(64, 96), (50, 70), (97, 33), (1, 5)])
def test_images_of_any_size_are_segmented_at_their_own_size(name, size):
    model = small(name).eval()
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    padded = nn.functional.pad(image, (0, -size[1] % 32, 0, -size[0] % 32))
    with torch.no_grad():
        scores = model(image).logits
        assert scores.shape == (2, 4, *size)
        # Float32 with the same operations; the room is for kernels that sum in another order.
        torch.testing.assert_close(scores, model(padded).logits[..., : size[0], : size[1]], atol=1e-5, rtol=1e-4)
        assert model.decide(image).superpixels is None


@every_baseline
def test_every_part_learns_a_picture_by_heart(name):
    model = small(name, 3).train()
    labels = torch.zeros(2, 64, 96, dtype=torch.long)
    labels[0, 16:48, 32:64], labels[1, :32, 64:] = 1, 2
    image = torch.randn(3, 3, generator=torch.Generator().manual_seed(2))[labels].permute(0, 3, 1, 2)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        torch.stack(list(model.loss(model(image), labels).values())).sum().backward()
        optimizer.step()
    assert all(p.grad is not None for p in model.parameters())
    assert (model(image).logits.argmax(1) == labels).float().mean() > 0.95


def test_lraspp_equals_torchvisions_head():
    """The same layers on the same maps; torchvision resizes before the classifier, which is the same up to rounding."""
    model = small("lraspp").eval()
    shallow, deep = model.backbone.channels
    head = torchvision.models.segmentation.lraspp.LRASPPHead(shallow, deep, 4, 24).eval()
    ours = model.state_dict()
    pairs = {
        "cbr.0": "reduce.0",
        "cbr.1": "reduce.1",
        "scale.1": "gate",
        "low_classifier": "shallow",
        "high_classifier": "deep",
    }
    head.load_state_dict(
        {key: ours[f"{pairs[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}"] for key in head.state_dict()}
    )
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        low, high = model.backbone(image)
        theirs = nn.functional.interpolate(head({"low": low, "high": high}), size=(64, 96), mode="bilinear")
        torch.testing.assert_close(model(image).logits, theirs, atol=1e-5, rtol=1e-4)


def test_the_pyramid_in_the_papers_form_has_its_number_of_parameters():
    with torch.device("meta"):
        model = build_model("fpn", "resnet50", 19, (512, 512))
    head = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("backbone."))
    lateral = sum(c * 256 + 256 for c in (256, 512, 1024, 2048))
    smooth = 4 * (256 * 256 * 9 + 256)
    first, next_ = 256 * 128 * 9 + 2 * 128, 128 * 128 * 9 + 2 * 128  # of 1, 1, 2 and 3 blocks, four are a level's first
    assert head == lateral + smooth + 4 * first + 3 * next_ + 128 * 19 + 19


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lraspp", {"width": 0}, "width is 0; expected at least 1"),
        ("fpn", {"branch_width": 20, "groups": 8}, "branch_width a multiple of groups"),
        ("conv_linear", {"width": 3}, "ConvLinear has no option 'width'"),
        ("lrasp", {}, "near names: lraspp"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options, message):
    error = ModelError if "no option" in message or "near" in message else ValueError
    with pytest.raises(error, match=message):
        build_model(name, "test_efficientnet", 4, (64, 96), **options)
