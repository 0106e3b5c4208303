"""What the fuzz tests share: how many examples, damage to whole inputs, and the bound on time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# An input of kilobytes takes milliseconds; the rest is slack for a starved machine. It is this thread's own time.
MOST_S = 2.0
LONGEST_LINE = 800


def fuzz(examples: int) -> Callable[[Any], Any]:
    """hypothesis's settings: `examples` times the same ones, or FUZZ_EXAMPLES others where that is set."""
    asked = int(os.environ.get("FUZZ_EXAMPLES", "0"))
    return settings(
        max_examples=asked or examples,
        derandomize=not asked,
        database=None,
        deadline=None,
        # Fixtures here are folders that every example writes anew.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@contextmanager
def answered(*refusals: type[ValueError]) -> Iterator[None]:
    """The block comes to its end, or raises one of these with one line to show; and does not take long for it."""
    begin_s = time.thread_time()
    said = "nothing"
    try:
        yield
    except refusals as error:
        said = str(error)
    assert len(said.splitlines()) == 1
    assert len(said) < LONGEST_LINE
    assert time.thread_time() - begin_s < MOST_S


@st.composite
def broken(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """A whole input with up to six damages: bytes set, removed, repeated, put in, or the end cut off."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 6))):
        if not data:
            break
        place = draw(st.integers(0, len(data) - 1))
        kind = draw(st.integers(0, 6))
        if kind < 3:
            data[place] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        elif kind == 3:
            del data[place : place + draw(st.integers(1, 40))]
        elif kind == 4:
            data[place:place] = draw(st.binary(min_size=1, max_size=24))
        elif kind == 5:
            data[place:place] = data[place : place + draw(st.integers(1, 200))] * draw(st.integers(1, 4))
        elif draw(st.booleans()):  # cut only now and then: most readers see that at once
            del data[place:]
    return bytes(data)
