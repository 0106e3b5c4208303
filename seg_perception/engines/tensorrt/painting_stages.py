"""What painting holds for the images of a batch: a stage for each place in it and each size that has come there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seg_perception.engines.tensorrt.cuda import OUT_OF_MEMORY, Cuda, CudaError
from seg_perception.engines.tensorrt.painting_kernel import PaintingStage
from seg_perception.painting_geometry import PaintingGeometry

SIZES = 4  # whose memory is kept at once, for each place in a batch; a camera has one

Place = tuple[int, tuple[int, int]]  # in the batch; (H, W) of the masks


class PaintingStages:
    """Stages as they are needed.

    Args:
        cuda, stream, kernel, geometry, mapped, wait: see `PaintingStage`.
        outputs: place -> where association and class logits of that image lie in device memory.
        forgetting: called before the stage of a place goes, for what refers to it; nothing is running then.
    """

    def __init__(
        self,
        cuda: Cuda,
        stream: int,
        kernel: int,
        geometry: PaintingGeometry,
        mapped: bool,
        wait: Callable[[], None],
        outputs: Callable[[int], tuple[int, int]],
        forgetting: Callable[[Place], None],
    ) -> None:
        self._cuda = cuda
        self._stream = stream
        self._kernel = kernel
        self._geometry = geometry
        self._mapped = mapped
        self._wait = wait
        self._outputs = outputs
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
                self._stages[place] = self._stage(place)
            except CudaError as error:
                others = [other for other in self._stages if other not in wanted]
                if error.code != OUT_OF_MEMORY or not others:
                    raise
                for other in others:
                    self._forget(other)
                self._stages[place] = self._stage(place)
        return [self._stages[place] for place in wanted]

    def close(self) -> None:
        """Give everything back; nothing of it may be running."""
        for place in list(self._stages):
            self._forget(place)

    def _stage(self, place: Place) -> PaintingStage:
        outputs = self._outputs(place[0])
        return PaintingStage(
            self._cuda, self._stream, self._kernel, self._geometry, place[1], *outputs, self._mapped, self._wait
        )

    def _forget(self, place: Place) -> None:
        self._forgetting(place)
        self._stages.pop(place).close()
