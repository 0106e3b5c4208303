"""Let measures look at every image of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from seg_models.data.folder import FolderDataset
from seg_models.evaluation.measures import UNLABELLED, Measure, Sample
from seg_models.evaluation.predictors import Predict
from seg_models.evaluation.processes import Processes

ALONE = Processes()


def evaluate(
    predict: Predict,
    data: FolderDataset,
    measures: Sequence[Measure],
    processes: Processes = ALONE,
    show_progress: bool = True,
    left_out: Sequence[int] = (),
) -> None:
    """Show every image of a data set to measures, with predictions at the size of its mask.

    Args:
        predict: the model.
        data: images and masks.
        measures: filled in place. Those of the first process are of all images, those of the others of their share.
        processes: that share the data set.
        show_progress: a bar on stderr, of the first process.
        left_out: classes whose pixels count as unlabelled.
    """
    mine = processes.share(len(data))
    for index in tqdm(mine, desc="evaluate", unit="image", disable=not (show_progress and processes.is_first)):
        image, labels = data.read(index)
        if left_out:
            labels = np.where(np.isin(labels, left_out), np.uint8(UNLABELLED), labels)
        sample = Sample(index, image, labels, predict(image).at_size((labels.shape[0], labels.shape[1])))
        for measure in measures:
            measure.add(sample)
    processes.join(measures)
