"""What the guard of the worker asks of the node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from seg_perception.ros.model_slot import ModelSlot
from seg_perception.segmenter import Segmenter

OPENING_TIMES = 12  # hang_timeout_s


@dataclass(frozen=True)
class Limits:
    """The parameters `hang_timeout_s` and `hang_restarts`."""

    hang_timeout_s: float
    most_left_behind: int

    @property
    def opening_s(self) -> float:
        """How long an engine may take to open: two minutes by default, where seconds are usual."""
        return OPENING_TIMES * self.hang_timeout_s


class GuardedNode(Protocol):
    """What the guard asks of the node."""

    def make_again(self, engine: str) -> Segmenter:
        """A segmenter as the one that serves, with another engine; not open. Raises what `make_segmenter` does."""

    def prepare_model(self, segmenter: Segmenter) -> None:
        """Make the publishers that it needs and the one before had not: its file may be another by now."""

    def begin_model(self, segmenter: Segmenter) -> None:
        """Between two frames: it serves the next one."""

    def model_renewed(self) -> None:
        """It serves: let go of what belonged to the one before."""

    def serve_with(self, slot: ModelSlot) -> None:
        """From now on this serves."""

    def renew_cameras(self) -> None:
        """Give every camera a decoder of its own again; the one before may still be at work."""

    @property
    def is_building(self) -> bool:
        """Whether TensorRT tells of progress in building an engine, which may take long."""

    @property
    def is_changing_model(self) -> bool:
        """Whether another model, prepared already, waits for the frame in hand to take its place."""
