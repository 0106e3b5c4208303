"""What goes wrong in a soak, and in which order: all of it drawn from one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random

from test.soak.world import World

# A fault takes hold of a world for the time of a block, and says which cameras may fall silent meanwhile.
Act = Callable[[World, Random], AbstractContextManager[set[str]]]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        name: in the report.
        kind: faults of one kind would undo each other, and never happen together.
        act: does it, and puts it right again.
        seconds: shortest and longest time that it lasts.
    """

    name: str
    kind: str
    act: Act
    seconds: tuple[float, float] = (1.0, 5.0)


@dataclass(frozen=True)
class Episode:
    """Faults at the same time, and how long.

    Attributes:
        faults: one or two.
        seconds: from the last beginning to the first end.
        seed: of all that the faults themselves draw.
        calm_s: of undisturbed images afterwards.
    """

    faults: tuple[Fault, ...]
    seconds: float
    seed: int
    calm_s: float

    @property
    def name(self) -> str:
        """Of its faults."""
        return " + ".join(fault.name for fault in self.faults)


TOGETHER = 0.25  # share of the episodes that have a second fault


def episodes(seed: int, faults: Sequence[Fault]) -> Iterator[Episode]:
    """Without end. Every fault comes once before any comes again, in an order that is drawn anew each time.

    Args:
        seed: the same one gives the same episodes.
        faults: to draw from.
    """
    rng = Random(seed)
    while True:
        deck = list(faults)
        rng.shuffle(deck)
        for fault in deck:
            together = [fault]
            others = [other for other in faults if other.kind != fault.kind]
            if others and rng.random() < TOGETHER:
                together.append(rng.choice(others))
            low = max(each.seconds[0] for each in together)
            high = max(low, min(each.seconds[1] for each in together))
            yield Episode(tuple(together), rng.uniform(low, high), rng.randrange(2**32), rng.uniform(0.5, 2.0))
