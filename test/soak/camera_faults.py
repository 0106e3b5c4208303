"""What cameras do: stop, crash, change their manner, send what is no image, tell the wrong time; and those who listen to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from random import Random
from typing import Any

from test.soak.camera import ENCODINGS
from test.soak.faults import Fault
from test.soak.world import EXTRA_OUTPUTS, World

JUMPS_S = (-3600.0, -5.0, -0.5, 0.5, 30.0, 86_400.0)


@contextmanager
def _changed(world: World, name: str, **changes: Any) -> Iterator[None]:
    """A camera that behaves otherwise for a while."""
    camera = world.cameras[name]
    before = camera.manner
    camera.manner = replace(before, **changes)
    try:
        yield
    finally:
        camera.manner = before


def _other_size(world: World, name: str, rng: Random) -> tuple[int, int]:
    return rng.choice(world.cameras[name].album.sizes[1:])


@contextmanager
def stops(world: World, rng: Random) -> Iterator[set[str]]:
    """One camera sends nothing for a while."""
    name = rng.choice(world.names)
    with _changed(world, name, stopped=True):
        yield {name}


@contextmanager
def restarts(world: World, rng: Random) -> Iterator[set[str]]:
    """One camera's driver crashes and is started again."""
    name = rng.choice(world.names)
    world.cameras[name].disconnect()
    try:
        yield {name}
    finally:
        world.cameras[name].connect()


@contextmanager
def changes_size(world: World, rng: Random) -> Iterator[set[str]]:
    """One camera sends images of another size."""
    name = rng.choice(world.names)
    with _changed(world, name, size=_other_size(world, name, rng)):
        yield set()


@contextmanager
def changes_encoding(world: World, rng: Random) -> Iterator[set[str]]:
    """One camera with raw images sends another encoding of them."""
    name = rng.choice([name for name in world.names if not world.cameras[name].is_compressed])
    with _changed(world, name, encoding=rng.choice(ENCODINGS[1:])):
        yield set()


@contextmanager
def changes_frame(world: World, rng: Random) -> Iterator[set[str]]:
    """One camera's frame_id changes, to nothing or to a text of some kilobytes among others."""
    name = rng.choice(world.names)
    with _changed(world, name, frame_id=rng.choice(["", "elsewhere", "ö" * 2000])):
        yield set()


@contextmanager
def breaks_images(world: World, rng: Random) -> Iterator[set[str]]:
    """One camera sends nothing but images that cannot be used."""
    name = rng.choice(world.names)
    with _changed(world, name, broken=rng.choice(world.cameras[name].broken_ways())):
        yield {name}


@contextmanager
def stamps_jump(world: World, rng: Random) -> Iterator[set[str]]:
    """One camera's clock is set, either way, and set back."""
    name = rng.choice(world.names)
    with _changed(world, name, offset_ns=int(1e9 * rng.choice(JUMPS_S))):
        yield set()


@contextmanager
def sends_no_stamps(world: World, rng: Random) -> Iterator[set[str]]:
    """One camera's driver fills in no stamps."""
    name = rng.choice(world.names)
    with _changed(world, name, unstamped=True):
        yield set()


@contextmanager
def changes_rate(world: World, rng: Random) -> Iterator[set[str]]:
    """One camera is three times as fast, or sends an image a second."""
    name = rng.choice(world.names)
    with _changed(world, name, rate_hz=rng.choice([3.0 * world.cameras[name].manner.rate_hz, 1.0])):
        yield {name}


@contextmanager
def listeners_come_and_go(world: World, rng: Random) -> Iterator[set[str]]:
    """Others subscribe to outputs that nobody wanted so far."""
    with ExitStack() as subscriptions:
        for name in world.names:
            outputs = tuple(rng.sample(EXTRA_OUTPUTS, rng.randint(1, len(EXTRA_OUTPUTS))))
            subscriptions.enter_context(world.listeners[name].also_to(outputs))
        yield set()


@contextmanager
def nobody_listens(world: World, rng: Random) -> Iterator[set[str]]:
    """One camera's only listener leaves, and comes back."""
    name = rng.choice(world.names)
    world.listeners[name].leave()
    try:
        yield {name}
    finally:
        world.listeners[name].listen()


CAMERA_FAULTS = (
    Fault("camera stops", "camera", stops),
    Fault("camera restarts", "camera", restarts),
    Fault("size changes", "camera", changes_size),
    Fault("encoding changes", "camera", changes_encoding),
    Fault("frame_id changes", "camera", changes_frame),
    Fault("broken images", "camera", breaks_images),
    Fault("stamps jump", "camera", stamps_jump),
    Fault("stamps are zero", "camera", sends_no_stamps),
    Fault("rate changes", "camera", changes_rate),
    Fault("listeners come and go", "listeners", listeners_come_and_go),
    Fault("nobody listens", "listeners", nobody_listens),
)
