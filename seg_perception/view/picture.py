"""What sources of pictures hand out, and what each of them is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from seg_perception.cloud import Intrinsics

# What a source's stamps count: nanoseconds since 1970, or since its first picture.
Clock = Literal["epoch", "start"]


class SourceError(ValueError):
    """A source cannot be opened or shown. One line: what came, what is accepted."""


@dataclass(frozen=True)
class Depth:
    """A depth image registered to the camera.

    Attributes:
        metric: [H, W], uint16 in millimetres or float32 in metres; see `seg_perception.cloud.DepthProjector`.
        intrinsics: of the camera.
    """

    metric: np.ndarray
    intrinsics: Intrinsics


@dataclass(frozen=True)
class Picture:
    """One camera image.

    Attributes:
        stamp_ns: when it was taken, by the source's clock; None where the source has none.
        rgb: uint8 [H, W, 3]; read it only.
        depth: where the source has it.
    """

    stamp_ns: int | None
    rgb: np.ndarray
    depth: Depth | None = None


class PictureSource(Protocol):
    """Pictures one after the other; iterate once, then `close`. A live source hands out the newest and drops the others.

    Attributes:
        description: what it is, in a few words.
        clock: of the stamps.
    """

    description: str
    clock: Clock

    @property
    def dropped(self) -> int:
        """Pictures that nobody took in time, or that could not be used."""
        ...

    def __iter__(self) -> Iterator[Picture]: ...

    def close(self) -> None: ...
