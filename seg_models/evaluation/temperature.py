"""Temperature scaling (Guo et al., 2017): one number that class scores are divided by, so that confidence is what it says.

The softmax of y / T has its maximum where y has it, so no label changes; T > 1 makes confidence smaller. T is that of the lowest
negative log-likelihood of true classes on images that the model was not trained on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar

from seg_models.data.folder import FolderDataset
from seg_models.evaluation.calibration import LEVELS
from seg_models.evaluation.measures import UNLABELLED, nearest

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


def fitted_temperature(scores: np.ndarray, classes: np.ndarray) -> float:
    """The T of the lowest negative log-likelihood; arguments as `sampled_scores` returns them.

    Raises:
        TemperatureError: it lies outside COLDEST to HOTTEST: every pixel is right, or scores say nothing.
    """
    return lowest(lambda temperature: negative_log_likelihood(scores, classes, temperature))


def fitted_odds_temperature(counts: np.ndarray) -> float:
    """For a model whose confidence p is no softmax over classes (SegViT's is a product of two probabilities): the T for which
    sigmoid(logit(p) / T) is likeliest to say which pixels are right.

    Args:
        counts: int (256, 2), pixels of each level of confidence that are wrong, and right (see `Calibration`).

    Raises:
        TemperatureError: see `fitted_temperature`.
    """
    level = (np.arange(LEVELS) / (LEVELS - 1)).clip(0.5 / LEVELS, 1 - 0.5 / LEVELS)
    odds = np.log(level / (1 - level))
    if not counts.sum():
        raise TemperatureError("no pixel of these images has a label; expected some to fit a temperature to")

    def loss(temperature: float) -> float:
        wrong, right = np.logaddexp(0, odds / temperature), np.logaddexp(0, -odds / temperature)
        return float((counts[:, 0] * wrong + counts[:, 1] * right).sum() / counts.sum())

    return lowest(loss)


def lowest(loss: Callable[[float], float]) -> float:
    """The temperature of the lowest loss. Raises TemperatureError where it lies at an end of the range."""
    low, high = np.log(COLDEST), np.log(HOTTEST)
    found = float(minimize_scalar(lambda t: loss(float(np.exp(t))), bounds=(low, high), method="bounded").x)
    if min(found - low, high - found) < 0.01:
        raise TemperatureError(
            f"the best temperature lies beyond {COLDEST:g} to {HOTTEST:g}: confidence on these images says nothing of what is "
            "right; look at them with seg_models.evaluate --report"
        )
    return float(np.exp(found))
