"""IoU of classes, of groups of them, and of single images, beside torchmetrics."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from seg_models.data.labels import read_label_table
from seg_models.evaluation.class_scores import SMALL_CLASSES, ClassScores, GroupError, class_groups, pair_counts
from seg_models.evaluation.measures import UNLABELLED, Sample, Segmented
from test.seg_models.evaluation.scenes import sample

NAMES = ("a", "b", "c", "d")
LABELS = Path(__file__).parents[3] / "config/labels"


def test_iou_and_accuracy_are_those_of_torchmetrics():
    samples = [sample(i, seed=i) for i in range(5)]
    scores = ClassScores(NAMES)
    for one in samples:
        scores.add(one)
    truth = torch.from_numpy(np.stack([one.labels for one in samples]).astype(np.int64))
    predicted = torch.from_numpy(np.stack([one.predicted.labels for one in samples]).astype(np.int64))
    # torchmetrics sums in float32: seven digits.
    iou = MulticlassJaccardIndex(4, average=None, ignore_index=UNLABELLED)(predicted, truth)
    accuracy = MulticlassAccuracy(4, average=None, ignore_index=UNLABELLED)(predicted, truth)
    overall = MulticlassAccuracy(4, average="micro", ignore_index=UNLABELLED)(predicted, truth)
    figures = scores.figures()
    assert list(figures["iou"].values()) == pytest.approx(iou.tolist(), abs=1e-6)
    assert list(figures["class_accuracy"].values()) == pytest.approx(accuracy.tolist(), abs=1e-6)
    assert figures["miou"] == pytest.approx(float(iou.mean()), abs=1e-6)
    assert figures["pixel_accuracy"] == pytest.approx(float(overall), abs=1e-6)


def test_a_class_that_is_only_predicted_has_no_iou_and_pixels_without_a_prediction_are_wrong():
    labels = np.array([[0, 0, 1, UNLABELLED]], np.uint8)
    predicted = np.array([[0, 2, UNLABELLED, 3]], np.uint8)
    scores = ClassScores(NAMES)
    scores.add(Sample(0, np.zeros((1, 4, 3), np.uint8), labels, Segmented(predicted, predicted)))
    assert scores.figures()["iou"] == {"a": 0.5, "b": 0.0, "c": None, "d": None}
    assert scores.figures()["miou"] == 0.25
    with pytest.raises(ValueError, match="a prediction is 7; expected 0 to 3"):
        pair_counts(labels, np.full((1, 4), 7, np.uint8), 4)


def test_images_are_ranked_from_the_worst():
    samples = [sample(i, seed=i) for i in range(6)]
    scores = ClassScores(NAMES)
    for one in samples:
        scores.add(one)
    alone = {}
    for one in samples:
        single = ClassScores(NAMES)
        single.add(one)
        alone[one.index] = single.scores().miou
    assert scores.worst(3) == sorted(alone.items(), key=lambda entry: entry[1])[:3]
    nothing = np.full((4, 4), UNLABELLED, np.uint8)
    scores.add(Sample(6, np.zeros((4, 4, 3), np.uint8), nothing, Segmented(nothing * 0, nothing)))
    assert math.isnan(scores.images[6])
    assert len(scores.worst(99)) == 6


@pytest.mark.parametrize(
    ("table", "group", "first"),
    [("cityscapes", "small classes (RSSeg, Table 1)", "pole"), ("ade20k", "small classes (RSSeg, Table 2)", "vase")],
)
def test_rssegs_small_classes_are_told_where_the_data_has_them(table, group, first):
    names = read_label_table(LABELS / f"{table}.yaml").names
    groups = class_groups(names)
    assert [names[k] for k in groups[group]] == list(SMALL_CLASSES[group])
    assert len(groups[group]) == 7
    assert names[groups[group][0]] == first
    assert class_groups(NAMES) == {}


def test_a_groups_mean_is_over_its_classes_that_the_labels_have():
    scores = ClassScores((*NAMES, "e"), class_groups((*NAMES, "e"), [["thin", "b", "d", "e"], ["none", "e"]]))
    scores.add(sample(0, seed=3))
    iou = scores.scores().iou
    assert iou[4] is None
    assert scores.group_means() == {"thin": pytest.approx((iou[1] + iou[3]) / 2), "none": None}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([["thin"]], "the group 'thin' has no class"),
        ([["thin", "e"]], "has 'e'; the data set's classes are a, b, c, d"),
    ],
)
def test_a_wrong_group_is_refused(asked, message):
    with pytest.raises(GroupError, match=message):
        class_groups(NAMES, asked)
