"""mIoU under corruptions, by group, and what is retained of the clean one (RSSeg, Table 15)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from seg_models.data.folder import FolderDataset
from seg_models.evaluation.class_scores import ClassScores
from seg_models.evaluation.corruptions import GROUPS, Corruption, corrupt
from seg_models.evaluation.measures import Sample
from seg_models.evaluation.predictors import Predict
from seg_models.evaluation.processes import Processes

ALONE = Processes()


@dataclass(frozen=True)
class Robustness:
    """A row of Table 15; all in 0..1.

    Attributes:
        clean: mIoU of the images as they are.
        corruptions: mIoU of each corruption, the mean over severities.
        groups: of each group, the mean over its corruptions.
        corrupted: "Corr.", the mean over all corruptions.
        retention: "Rete.", corrupted / clean.
    """

    clean: float
    corruptions: dict[str, float]
    groups: dict[str, float]
    corrupted: float
    retention: float

    def figures(self) -> dict[str, Any]:
        """In plain JSON types; None for what no pixel was labelled for, and for a retention of nothing."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(one) for key, one in value.items()}
            return None if math.isnan(value) else value

        found: dict[str, Any] = plain(dataclasses.asdict(self))
        return found

    def lines(self) -> list[str]:
        """For a terminal, in percent."""
        found = {"clean": self.clean, "Corr.": self.corrupted, "Rete.": self.retention, **self.groups}
        return [f"{name:>10} {100 * value:6.1f}" for name, value in found.items()]


def miou(
    predict: Predict, data: FolderDataset, name: str | None, severity: int, seed: int, processes: Processes = ALONE
) -> float:
    """Of a data set whose images are corrupted before they are predicted; `name` None: as they are.

    Of several processes the first has the figure of all images, the others that of their share.
    """
    scores = ClassScores(data.table.names)
    for index in processes.share(len(data)):
        image, labels = data.read(index)
        if name is not None:
            image = corrupt(image, name, severity, np.random.default_rng((seed, index, severity)))
        scores.add(Sample(index, image, labels, predict(image).at_size((labels.shape[0], labels.shape[1]))))
    processes.join([scores])
    return scores.scores().miou


def robustness(
    predict: Predict,
    data: FolderDataset,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    noise_severities: Sequence[int] = (1, 2, 3),
    seed: int = 0,
    groups: Mapping[str, Mapping[str, Corruption]] = GROUPS,
    processes: Processes = ALONE,
) -> Robustness:
    """Score a model under every corruption.

    Args:
        predict: the model.
        data: images and masks.
        severities: to average over, each 1 to 5.
        noise_severities: those of the group "noise". The first three, as in the works that Table 15 follows: beyond them
            little is to be seen in images of streets.
        seed: of the corruptions; an image is corrupted alike for every model.
        groups: Table 15's GROUPS, or ROBOT_GROUPS.
        processes: that share the images.
    """
    found = {}
    steps = [(group, name) for group, members in groups.items() for name in members]
    clean = miou(predict, data, None, 0, seed, processes)
    for group, name in tqdm(steps, desc="corruptions", unit="corruption", disable=not processes.is_first):
        chosen = noise_severities if group == "noise" else severities
        found[name] = float(np.mean([miou(predict, data, name, severity, seed, processes) for severity in chosen]))
    means = {group: float(np.mean([found[name] for name in members])) for group, members in groups.items()}
    corrupted = float(np.mean(list(found.values())))
    return Robustness(clean, found, means, corrupted, corrupted / clean if clean else float("nan"))
