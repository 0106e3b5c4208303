"""How many images a second a loader could deliver, and how long it was waited for.

The loader's own speed shows in no waiting time as long as the step is slower. So each sample's reading and augmentation is
timed where it is done, in the loader's processes, which write to memory that they share with the training.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info


class TimedSamples(Dataset[Any]):
    """A data set whose samples are timed.

    Args:
        data: the data set.
        workers: processes of the loader; 0 for none but the training's own.
    """

    def __init__(self, data: Any, workers: int) -> None:
        self.data = data
        # (workers, 2): seconds and samples of each; a line has one writer, so nothing is lost.
        self.spent: Tensor = torch.zeros(max(1, workers), 2, dtype=torch.float64).share_memory_()
        self.seen = self.spent.clone()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int) -> Any:
        """The sample."""
        start = time.perf_counter()
        sample = self.data[key]
        info = get_worker_info()
        line = self.spent[0 if info is None else info.id]
        line += torch.tensor([time.perf_counter() - start, 1.0], dtype=torch.float64)
        return sample

    def rate(self) -> float:
        """Images a second that all processes together make, since the last call; nan if they made none."""
        now = self.spent.clone()
        spent, self.seen = now - self.seen, now
        busy = spent[:, 0] > 0
        return float((spent[busy, 1] / spent[busy, 0]).sum()) if busy.any() else float("nan")
