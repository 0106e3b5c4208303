"""RSSeg on CSWin: published parameter counts and samples, boundaries and their loss, sizes, errors."""

from __future__ import annotations

import pytest
import torch

from seg_models.architectures.rsseg.boundary import boundaries, boundary_loss
from seg_models.backbones.cswin import CSWinShape
from seg_models.build import build_model
from seg_models.losses import IGNORE

TINY = CSWinShape(width=8, depths=(1, 1, 3, 1), heads=(2, 2, 2, 2), stripes=(1, 2, 3))


def tiny(size: tuple[int, int] = (64, 96), **options):
    torch.manual_seed(0)
    return build_model("rsseg_pyramid", "cswin_tiny", 4, size, shape=TINY, hidden_width=16, **options)


@pytest.mark.parametrize(
    ("backbone", "millions", "samples"),
    [("cswin_tiny", 23.2, (2, 5, 8, 11, 14, 17, 20, 23)), ("cswin_small", 36.3, (5, 9, 13, 17, 21, 25, 29, 33, 37))],
)
def test_parameters_and_samples_are_tables_9_and_3s(backbone, millions, samples):
    with torch.device("meta"):
        model = build_model("rsseg_pyramid", backbone, 19, (1024, 1024))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)  # 23.21 and 36.39
    assert model.backbone.taps[1:-1] == samples


def test_boundaries_are_where_classes_meet_and_not_where_labels_end():
    labels = torch.zeros(1, 4, 6, dtype=torch.long)
    labels[..., 2:4], labels[..., 4:] = 3, IGNORE
    assert boundaries(labels)[0].tolist() == [[False, True, True, False, False, False]] * 4


def test_boundary_loss_falls_to_zero_at_the_truth_and_is_zero_without_labels():
    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    labels[:, :, 4:] = 1
    truth = boundaries(labels)[:, None].float() * 40 - 20
    assert boundary_loss(truth, labels) < 1e-3
    assert boundary_loss(-truth, labels) > 1
    scores = truth.clone().requires_grad_()
    nothing = boundary_loss(scores, torch.full_like(labels, IGNORE))
    nothing.backward()
    assert nothing == 0


@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_any_image_size_trains(size):
    model = tiny().train()
    prediction = model(torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1)))
    assert prediction.logits.shape == (2, 4, *size)
    labels = torch.randint(0, 4, (2, *size), generator=torch.Generator().manual_seed(2))
    sum(model.loss(prediction, labels).values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match="interval is 2; expected a divisor of the 3 blocks"):
        tiny(interval=2)
    with pytest.raises(ValueError, match="a batch of 1 image in training"):
        tiny().train()(torch.zeros(1, 3, 64, 96))
