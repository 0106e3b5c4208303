"""What painting holds for the images of a batch: a stage for each place in it and each size that has come there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seg_perception.engines.tensorrt.cuda import OUT_OF_MEMORY, CudaError
from seg_perception.engines.tensorrt.painting_kernel import PaintingStage

SIZES = 4  # whose memory is kept at once, for each place in a batch; a camera has one

Place = tuple[int, tuple[int, int]]  # in the batch; (H, W) of the masks


class PaintingStages:
    """Stages as they are needed.

    Args:
        make: takes the memory of a stage; raises CudaError where there is not enough.
        forgetting: called before the stage of a place goes, for what refers to it; nothing is running then.
    """

    def __init__(self, make: Callable[[Place], PaintingStage], forgetting: Callable[[Place], None]) -> None:
        self._make = make
        self._forgetting = forgetting
        self._stages: dict[Place, PaintingStage] = {}

    def prepare(self, sizes: Sequence[tuple[int, int]]) -> list[PaintingStage]:
        """The stages for masks of these sizes (H, W), one for each place in the batch.

        Memory is taken where it is not there yet. Where it is short, what is held for other sizes goes first.

        Raises:
            CudaError: there is not enough all the same.
        """
        wanted = list(enumerate(sizes))
        for place in wanted:
            if place in self._stages:
                continue
            held = [other for other in self._stages if other[0] == place[0]]
            if len(held) >= SIZES:
                self._forget(held[0])  # the one that has been there longest
            try:
                self._stages[place] = self._make(place)
            except CudaError as error:
                others = [other for other in self._stages if other not in wanted]
                if error.code != OUT_OF_MEMORY or not others:
                    raise
                for other in others:
                    self._forget(other)
                self._stages[place] = self._make(place)
        return [self._stages[place] for place in wanted]

    def close(self) -> None:
        """Give everything back; nothing of it may be running."""
        for place in list(self._stages):
            self._forget(place)

    def _forget(self, place: Place) -> None:
        self._forgetting(place)
        self._stages.pop(place).close()
