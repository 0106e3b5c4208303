"""An evaluation in several processes, as `torchrun` starts them: each image once, and one result.

Only what the measures keep goes from process to process, at the end; it goes through gloo, on CPUs as on GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from seg_models.evaluation.measures import Measure
from seg_models.messages import one_line

PATIENCE = timedelta(days=2)  # the last process may have the largest images


class DeviceError(ValueError):
    """A device that is not there."""


@dataclass(frozen=True)
class Processes:
    """This process among those that share an evaluation.

    Attributes:
        rank: its number.
        count: of processes.
        local_rank: its number on this machine, which is that of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether it is the one that has the result."""
        return self.rank == 0

    def share(self, total: int) -> range:
        """Indices of this process, each of 0..total-1 in exactly one; shares differ by one at most."""
        return range(self.rank, total, self.count)

    def join(self, measures: Sequence[Measure]) -> None:
        """Bring the measures of all processes into those of the first one, in place."""
        if self.count == 1:
            return
        gathered: list[list[Measure]] | None = [[] for _ in range(self.count)] if self.is_first else None
        dist.gather_object(list(measures), gathered, dst=0)
        for others in (gathered or [])[1:]:
            for mine, other in zip(measures, others, strict=True):
                mine.merge(other)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def running_processes() -> Iterator[Processes]:
    """The processes that torchrun started, connected; this one alone without it."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Processes(dist.get_rank(), count, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()


def device_named(name: str, processes: Processes | None = None) -> torch.device:
    """The device of a name such as "cpu" or "cuda:1"; "cuda" is the GPU of this process' number on its machine.

    Raises:
        DeviceError: no such device.
    """
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", 0 if processes is None else processes.local_rank)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        known = ", ".join(["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))])
        raise DeviceError(f"--device {name} cannot be used: {one_line(error, 200)}; here are {known}") from error
    return device
