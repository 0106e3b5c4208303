"""Hard-pixel cross entropy and the confusion matrix, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from seg_models.losses import IGNORE, top_fraction_cross_entropy
from seg_models.training.metrics import ConfusionMatrix


def logits_with_losses(losses: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Two-class logits (1, 2, 1, N) whose cross entropy with label 0 is the given number a pixel."""
    gap = torch.tensor([math.log(math.exp(v) - 1) for v in losses])
    return torch.stack([torch.zeros_like(gap), gap])[None, :, None, :], torch.zeros(1, 1, len(losses), dtype=torch.long)


def test_only_the_hardest_fraction_counts():
    logits, labels = logits_with_losses([0.1, 0.2, 0.3, 0.4, 5.0, 0.5, 0.6, 3.0, 0.7, 0.8])
    assert top_fraction_cross_entropy(logits, labels, 0.2).item() == pytest.approx(4.0, rel=1e-5)


def test_a_fraction_of_one_is_the_plain_mean():
    logits, labels = logits_with_losses([1.0, 2.0, 3.0])
    assert top_fraction_cross_entropy(logits, labels, 1.0).item() == pytest.approx(2.0, rel=1e-5)


def test_unlabelled_pixels_neither_count_nor_widen_the_fraction():
    logits, labels = logits_with_losses([9.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    labels[0, 0, 0] = IGNORE
    # a fifth of the five labelled pixels is one, the hardest of them
    assert top_fraction_cross_entropy(logits, labels, 0.2).item() == pytest.approx(5.0, rel=1e-5)


def test_each_image_has_its_own_hard_pixels():
    easy, labels = logits_with_losses([1.0] * 5)
    hard, _ = logits_with_losses([2.0, 2.0, 2.0, 2.0, 7.0])
    loss = top_fraction_cross_entropy(torch.cat([easy, hard]), labels.repeat(2, 1, 1), 0.2)
    assert loss.item() == pytest.approx((1.0 + 7.0) / 2, rel=1e-5)


def test_an_unlabelled_batch_gives_zero_and_a_zero_gradient():
    logits = torch.randn(1, 2, 2, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = top_fraction_cross_entropy(logits, torch.full((1, 2, 2), IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5])
def test_a_fraction_outside_its_range_is_refused(fraction):
    logits, labels = logits_with_losses([1.0])
    with pytest.raises(ValueError, match=r"expected a number in \(0, 1\]"):
        top_fraction_cross_entropy(logits, labels, fraction)


def test_scores_of_a_confusion_worked_out_by_hand():
    confusion = ConfusionMatrix(4)
    labels = torch.tensor([[0, 0, 0, 1], [1, 1, IGNORE, 2]])
    predicted = torch.tensor([[0, 0, 1, 1], [1, 3, 0, 2]])
    confusion.add(predicted, labels)
    scores = confusion.scores()
    # class 0: 2 of 3 hit, no false alarm; 1: 2 of 3 hit, one false alarm; 2: all; 3 is not in the labels
    assert scores.iou == [pytest.approx(2 / 3), pytest.approx(2 / 4), 1.0, None]
    assert scores.miou == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert scores.pixel_accuracy == pytest.approx(5 / 7)


def test_labels_outside_the_classes_are_refused():
    with pytest.raises(ValueError, match=r"label 7 found; expected 0\.\.2 or 255"):
        ConfusionMatrix(3).add(torch.tensor([0]), torch.tensor([7]))


def test_shapes_must_match():
    with pytest.raises(ValueError, match="same shape"):
        ConfusionMatrix(3).add(torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long))
