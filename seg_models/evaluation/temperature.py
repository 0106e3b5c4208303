"""Temperature scaling (Guo et al., 2017): one number that class scores are divided by, so that confidence is what it says.

The softmax of y / T has its maximum where y has it, so no label changes; T > 1 makes confidence smaller. T is fitted on images
that the model was not trained on: that of the lowest negative log-likelihood of the true classes, as in the paper, or that of the
lowest calibration error. The two differ where confidence is too low for some pixels and too high for others, which no
temperature repairs: models that are trained on the hardest pixels alone are so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar

from seg_models.data.folder import FolderDataset
from seg_models.evaluation.calibration import BINS, LEVELS
from seg_models.evaluation.measures import UNLABELLED, nearest

OBJECTIVES = ("likelihood", "ece")
COLDEST, HOTTEST = 0.02, 50.0
PIXELS = 400_000  # in all; more moves the temperature by less than a thousandth

# uint8 RGB (H, W, 3) -> class scores before the softmax, float (K, h, w), at the network's size
Scores = Callable[[np.ndarray], np.ndarray]


class TemperatureError(ValueError):
    """No temperature that makes sense."""


def sampled_scores(
    scores: Scores, data: FolderDataset, chosen: range | list[int], seed: int = 0, pixels: int = PIXELS
) -> tuple[np.ndarray, np.ndarray]:
    """Class scores at labelled pixels, drawn evenly over images.

    Args:
        scores: of the model.
        data: images and masks; masks are taken to the size of the scores by their nearest pixels.
        chosen: indices of images.
        seed: of the pixels.
        pixels: in all, at most.

    Returns:
        float32 (N, K) scores less the largest of their pixel, and int64 (N,) true classes.

    Raises:
        TemperatureError: no pixel has a label.
    """
    each = max(1, pixels // max(1, len(chosen)))
    found, classes = [], []
    for index in chosen:
        image, labels = data.read(index)
        made = scores(image)  # (K, h, w)
        truth = nearest(labels, (made.shape[1], made.shape[2]))
        known = np.flatnonzero(truth != UNLABELLED)
        generator = np.random.default_rng((seed, index))
        known = generator.choice(known, min(each, len(known)), replace=False)
        of_pixels = made.reshape(len(made), -1).T[known].astype(np.float32)  # (n, K)
        found.append(of_pixels - of_pixels.max(axis=1, keepdims=True, initial=-np.inf))
        classes.append(truth.ravel()[known].astype(np.int64))
    if not sum(map(len, classes)):
        raise TemperatureError("no pixel of these images has a label; expected some to fit a temperature to")
    return np.concatenate(found), np.concatenate(classes)


def negative_log_likelihood(scores: np.ndarray, classes: np.ndarray, temperature: float) -> float:
    """Mean over pixels of -log softmax(scores / T)[class]; arguments as `sampled_scores` returns them."""
    scaled = scores / np.float32(temperature)
    true = scaled[np.arange(len(classes)), classes]
    return float((np.log(np.exp(scaled).sum(axis=1, dtype=np.float64)) - true).mean())


def fitted_temperature(scores: np.ndarray, classes: np.ndarray, objective: str = "likelihood") -> float:
    """The best T for class scores.

    Args:
        scores, classes: as `sampled_scores` returns them.
        objective: one of OBJECTIVES.

    Raises:
        TemperatureError: it lies outside COLDEST to HOTTEST: every pixel is right, or scores say nothing.
    """
    likeliest = lowest(lambda temperature: negative_log_likelihood(scores, classes, temperature))
    if objective == "likelihood":
        return likeliest
    right = scores.argmax(axis=1) == classes

    def error(temperature: float) -> float:
        confidence = 1.0 / np.exp(scores / np.float32(temperature)).sum(axis=1, dtype=np.float64)
        return binned_error(confidence, right.astype(float), np.ones(len(classes)))

    return lowest_near(likeliest, error)


def fitted_odds_temperature(counts: np.ndarray, objective: str = "likelihood") -> float:
    """For a model whose confidence p is no softmax over classes (SegViT's is a product of two probabilities): the best T to
    make it sigmoid(logit(p) / T), which of all pixels says which are right.

    Args:
        counts: int (256, 2), pixels of each level of confidence that are wrong, and right (see `Calibration`).
        objective: one of OBJECTIVES; the likelihood is that of being right.

    Raises:
        TemperatureError: see `fitted_temperature`.
    """
    level = (np.arange(LEVELS) / (LEVELS - 1)).clip(0.5 / LEVELS, 1 - 0.5 / LEVELS)
    odds = np.log(level / (1 - level))
    total = counts.sum(axis=1)
    if not total.any():
        raise TemperatureError("no pixel of these images has a label; expected some to fit a temperature to")

    def loss(temperature: float) -> float:
        wrong, right = np.logaddexp(0, odds / temperature), np.logaddexp(0, -odds / temperature)
        return float((counts[:, 0] * wrong + counts[:, 1] * right).sum() / total.sum())

    def error(temperature: float) -> float:
        share = counts[:, 1] / np.maximum(total, 1)
        return binned_error(1 / (1 + np.exp(-odds / temperature)), share, total.astype(float))

    likeliest = lowest(loss)
    return likeliest if objective == "likelihood" else lowest_near(likeliest, error)


def binned_error(confidence: np.ndarray, right: np.ndarray, weight: np.ndarray) -> float:
    """Expected calibration error of confidence in 0..1, of which the share `right` in 0..1 is right; all float (N,)."""
    place = np.maximum(np.ceil(confidence * BINS).astype(int) - 1, 0)
    gaps = np.bincount(place, weight * (confidence - right), BINS)
    return float(np.abs(gaps).sum() / weight.sum())


def lowest(loss: Callable[[float], float]) -> float:
    """The temperature of the lowest loss, which has but one minimum."""
    low, high = np.log(COLDEST), np.log(HOTTEST)
    found = minimize_scalar(lambda t: loss(float(np.exp(t))), bounds=(low, high), method="bounded").x
    return inside(float(np.exp(found)))


def lowest_near(likeliest: float, error: Callable[[float], float]) -> float:
    """The temperature of the lowest error, which has steps, to 2 %. It is looked for up to three times below and above the
    likeliest: far off, the same confidence everywhere may have no error either, and says nothing."""
    trials = likeliest * np.exp(np.arange(-np.log(3), np.log(3), 0.02))
    return float(trials[np.argmin([error(float(t)) for t in trials])])


def inside(temperature: float) -> float:
    """The temperature itself. Raises TemperatureError where it lies at an end of the range."""
    if not COLDEST * 1.02 < temperature < HOTTEST / 1.02:
        raise TemperatureError(
            f"the best temperature lies beyond {COLDEST:g} to {HOTTEST:g}: confidence on these images says nothing of what is "
            "right; look at them with seg_models.evaluate --calibration --report DIR"
        )
    return temperature
