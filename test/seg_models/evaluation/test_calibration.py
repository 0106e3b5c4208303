"""Calibration error beside torchmetrics and plain arithmetic, and the temperature that is least wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torchmetrics.classification import BinaryCalibrationError

from seg_models.evaluation.calibration import Calibration, calibration_figures
from seg_models.evaluation.measures import UNLABELLED, Sample, Segmented
from seg_models.evaluation.temperature import (
    OBJECTIVES,
    TemperatureError,
    fitted_odds_temperature,
    fitted_temperature,
    negative_log_likelihood,
)
from test.seg_models.evaluation.scenes import sample


@pytest.mark.parametrize("bins", [10, 15])
def test_the_error_is_torchmetrics(bins):
    samples = [sample(i, seed=60 + i) for i in range(3)]
    edge = 255 // np.gcd(255, bins)  # levels on the edge of a bin: a float of torchmetrics falls to either side of it
    calibration = Calibration(bins)
    confidences, right = [], []
    for one in samples:
        levels = np.where(one.predicted.confidence % edge == 0, one.predicted.confidence ^ 1, one.predicted.confidence)
        one = Sample(one.index, one.image, one.labels, Segmented(one.predicted.labels, levels))
        calibration.add(one)
        known = one.labels != UNLABELLED
        confidences.append(levels[known] / 255)
        right.append((one.predicted.labels == one.labels)[known])
    # For two classes torchmetrics bins the probability given, and takes the target for whether it was right.
    probability = torch.from_numpy(np.concatenate(confidences))
    target = torch.from_numpy(np.concatenate(right)).long()
    figures = calibration.figures()
    for norm, name in (("l1", "ece"), ("max", "mce")):
        expected = float(BinaryCalibrationError(bins, norm=norm)(probability, target))
        assert figures[name] == pytest.approx(expected, abs=1e-6), name  # float32 sums
    assert figures["accuracy"] == pytest.approx(float(target.float().mean()), abs=1e-6)
    assert figures["mean_confidence"] == pytest.approx(float(probability.mean()), abs=1e-6)


def test_a_bin_holds_its_upper_edge_and_the_first_one_zero():
    counts = np.zeros((256, 2), np.int64)
    counts[[0, 17, 18, 255], 1] = 1
    found = calibration_figures(counts, 15)["bins"]
    assert [one["pixels"] for one in found] == [2, 1, *[0] * 12, 1]
    assert found[0]["accuracy"] == 1
    assert found[2]["accuracy"] is None
    assert calibration_figures(counts * 0)["ece"] is None


def test_confidence_that_is_what_it_says_has_no_error():
    counts = np.zeros((256, 2), np.int64)
    counts[51] = (800, 200)
    counts[204] = (200, 800)
    assert calibration_figures(counts)["ece"] == pytest.approx(0, abs=1e-12)


def drawn_scores(temperature: float, count: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose true classes were drawn with the probabilities of scores / temperature."""
    generator = np.random.default_rng(0)
    scores = generator.normal(0, 4, (count, 5)).astype(np.float32)
    probability = np.exp(log_softmax(scores / temperature, axis=1))
    classes = (probability.cumsum(1) > generator.random((count, 1))).argmax(1)
    return scores - scores.max(1, keepdims=True), classes


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_classes_were_drawn_with_is_found(temperature, objective):
    scores, classes = drawn_scores(temperature)
    # Three deviations of this many, and steps of 2 % for the error, whose minimum is flat.
    tolerance = 0.03 if objective == "likelihood" else 0.08
    assert fitted_temperature(scores, classes, objective) == pytest.approx(temperature, rel=tolerance)


def test_the_likelihood_is_that_of_pytorch():
    scores, classes = drawn_scores(1.0, 500)
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(scores) / 1.7, torch.from_numpy(classes))
    assert negative_log_likelihood(scores, classes, 1.7) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_confidence_without_scores_is_made_softer_by_its_odds(objective):
    """Confidence p that is right with the probability sigmoid(logit(p) / 2)."""
    level = np.arange(1, 255)
    odds = np.log(level / (255 - level))
    right = np.round(10_000 / (1 + np.exp(-odds / 2))).astype(np.int64)
    counts = np.zeros((256, 2), np.int64)
    counts[1:255, 1], counts[1:255, 0] = right, 10_000 - right
    assert fitted_odds_temperature(counts, objective) == pytest.approx(2, rel=0.03)


def test_what_no_temperature_helps_is_refused():
    scores, _ = drawn_scores(1.0, 500)
    with pytest.raises(TemperatureError, match="the best temperature lies beyond"):
        fitted_temperature(scores, scores.argmax(1))  # always right
    with pytest.raises(TemperatureError, match="no pixel of these images has a label"):
        fitted_odds_temperature(np.zeros((256, 2), np.int64))
