"""Class frequencies: weights of the loss, and images drawn for their rare classes."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seg_models.data.class_pixels import balanced_draw, class_pixels, class_weights
from seg_models.data.folder import EpochShuffle, FolderDataset
from seg_models.data.loaders import loss_weights
from seg_models.losses import IGNORE, cross_entropy, top_fraction_cross_entropy
from seg_models.training.recipe import DataRecipe, ModelRecipe, Recipe, RecipeError
from seg_models.training.run import weights_of_classes
from test.seg_models.data.test_folder import write_folder
from test.seg_models.tiny_models import tiny_model

PIXELS = np.array([[90, 10, 0], [100, 0, 0], [60, 30, 10], [100, 0, 0]])  # 4 images, 3 classes


def test_counts_the_labelled_pixels_of_each_image(tmp_path):
    write_folder(tmp_path, 2)
    labels = np.full((24, 32), IGNORE, np.uint8)
    labels[:2, :3] = 1
    cv2.imwrite(str(tmp_path / "labels/train/0001.png"), labels)
    counts = class_pixels(FolderDataset([tmp_path], "train"), 2)
    assert counts.tolist() == [[24 * 16 - 1, 24 * 16], [0, 6]]


def test_weights_are_as_published_up_to_one_factor_that_makes_their_mean_1():
    share = np.array([350 / 400, 40 / 200, 10 / 100])  # of the pixels of the images that show the class
    expected = np.median(share) / share
    weights = class_weights(PIXELS, "median_frequency")
    assert weights / weights[0] == pytest.approx(expected / expected[0], rel=1e-6)
    assert (weights * PIXELS.sum(0)).sum() == pytest.approx(400, rel=1e-6)
    logarithm = 1 / np.log(1.02 + PIXELS.sum(0) / 400)
    weights = class_weights(PIXELS, "inverse_log")
    assert weights / weights[0] == pytest.approx(logarithm / logarithm[0], rel=1e-6)


@pytest.mark.parametrize("weighting", ["median_frequency", "inverse_log"])
def test_a_class_without_pixels_weighs_nothing_and_breaks_nothing(weighting):
    weights = class_weights(np.array([[50, 0, 50]]), weighting)
    assert weights[1] == 0
    assert np.isfinite(weights).all()


def test_rare_classes_are_drawn_more_often_and_every_probability_follows_from_the_classes():
    chances = balanced_draw(PIXELS, 0.1)
    assert chances.sum() == pytest.approx(1)
    assert chances[2] > chances[0] > chances[1] == chances[3]
    share = PIXELS.sum(0) / 400
    of_class = np.exp((1 - share) / 0.1) / np.exp((1 - share) / 0.1).sum()
    assert chances[2] == pytest.approx(of_class[0] / 4 + of_class[1] / 2 + of_class[2])


def test_an_epoch_follows_the_chances_and_is_the_same_again_whatever_the_processes():
    chances = np.array([0.0, 0.9, 0.1, 0.0])
    whole = list(EpochShuffle(4, 7, chances=np.repeat(chances, 1)))
    shares = [list(EpochShuffle(4, 7, rank, 2, chances)) for rank in range(2)]
    assert sorted(whole) == sorted(shares[0] + shares[1])
    assert set(whole) <= {1, 2}


def test_the_recipe_gives_weights_of_the_training_split(tmp_path):
    data = DataRecipe([str(write_folder(tmp_path, 2))], class_weights="inverse_log")
    weights = loss_weights(Recipe(data=data))
    assert weights is not None
    assert weights.tolist() == pytest.approx([1, 1], abs=1e-2)  # floor and wall fill half each
    assert loss_weights(Recipe(data=dataclasses.replace(data, class_weights="none"))) is None


def test_weighted_losses_count_each_pixel_by_its_label():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, generator=generator)
    labels = torch.randint(0, 3, (2, 4, 4), generator=generator)
    labels[0, 0, 0] = IGNORE
    weights = torch.tensor([0.5, 2.0, 3.0])
    pixel = F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORE)
    pixel = pixel * weights[labels.clamp(max=2)] * (labels != IGNORE)
    assert cross_entropy(logits, labels, class_weights=weights) == pytest.approx(float(pixel.sum() / 31), rel=1e-6)
    means = pixel.flatten(1).sum(1) / torch.tensor([15.0, 16.0])
    assert top_fraction_cross_entropy(logits, labels, 1.0, weights) == pytest.approx(float(means.mean()), rel=1e-6)


def test_a_model_without_a_pixel_cross_entropy_refuses_weights(tmp_path):
    recipe = Recipe(model=ModelRecipe("rsseg"), data=DataRecipe([str(tmp_path)], class_weights="inverse_log"))
    with pytest.raises(RecipeError, match="rsseg has no plain cross entropy"):
        weights_of_classes(recipe, tiny_model("rsseg"))
