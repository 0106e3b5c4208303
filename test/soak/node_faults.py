"""What people and programs do to a running node, and what the machine does to it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from test.seg_perception.node_services import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE
from test.soak.camera_faults import CAMERA_FAULTS
from test.soak.faults import Fault
from test.soak.world import World, burning

GOOD: tuple[tuple[str, Any, Any], ...] = (  # name, value, value to go back to
    ("overlay_alpha", 0.25, 0.5),
    ("late_after_ms", 50.0, 500.0),
    ("stale_after_s", 0.5, 2.0),
    ("diagnostics_period_s", 0.2, 1.0),
)
BAD: tuple[tuple[str, Any], ...] = (
    ("overlay_alpha", 7.0),
    ("overlay_alpha", "much"),
    ("late_after_ms", -1.0),
    ("no_such_parameter", 1),
    ("model", "/no/such/model.onnx"),
    ("engine", "abacus"),
    ("cameras", ["other"]),
)


@contextmanager
def parameters_change(world: World, rng: Random) -> Iterator[set[str]]:
    """Values that are taken and put back, and some that must be refused."""
    chosen = rng.sample(GOOD, 2)
    for name, value, _ in chosen:
        reason = world.client.set_parameter(name, value)
        world.expect(not reason, f"parameter {name} = {value} was refused: {reason}")
    for name, value in rng.sample(BAD, 3):
        world.expect(bool(world.client.set_parameter(name, value)), f"parameter {name} = {value} was not refused")
    yield set()
    for name, _, before in chosen:
        reason = world.client.set_parameter(name, before)
        world.expect(not reason, f"parameter {name} = {before} was refused: {reason}")


def _load(world: World, model: Any, engine: tuple[str, str]) -> None:
    for name, value in (("model", str(model)), ("engine", engine[0]), ("precision", engine[1])):
        reason = world.client.set_parameter(name, value)
        world.expect(not reason, f"parameter {name} = {value} was refused: {reason}")
    success, message = world.client.trigger("load_model")
    world.expect(success, f"load_model of {model} on {engine[0]}: {message}")


@contextmanager
def model_swaps(world: World, rng: Random) -> Iterator[set[str]]:
    """Another model on another engine, and back; not an image is to be lost to it."""
    _load(world, rng.choice(world.models[1:]), rng.choice(world.engines))
    yield set()
    _load(world, world.models[0], world.engines[0])


@contextmanager
def model_is_refused(world: World, rng: Random) -> Iterator[set[str]]:
    """A model that turns out not to be one when it is loaded: its file is damaged after the parameter was set."""
    copy = world.folder / "damaged.onnx"
    shutil.copyfile(world.models[1], copy)
    reason = world.client.set_parameter("model", str(copy))
    world.expect(not reason, f"parameter model = {copy} was refused: {reason}")
    with copy.open("r+b") as file:
        file.truncate(copy.stat().st_size // 3)
    success, _ = world.client.trigger("load_model")
    world.expect(not success, "a model cut to a third was loaded")
    yield set()
    reason = world.client.set_parameter("model", str(world.models[0]))
    world.expect(not reason, f"parameter model = {world.models[0]} was refused: {reason}")


@contextmanager
def model_file_goes(world: World, rng: Random) -> Iterator[set[str]]:
    """The file of the model that serves is deleted, and put back."""
    away = world.folder / "away.onnx"
    shutil.move(world.models[0], away)
    try:
        yield set()
    finally:
        shutil.move(away, world.models[0])


@contextmanager
def deactivates(world: World, rng: Random) -> Iterator[set[str]]:
    """A lifecycle manager deactivates the node, and activates it again."""
    world.expect(world.client.change_state(DEACTIVATE), "deactivate was refused")
    try:
        yield set(world.names)
    finally:
        world.expect(world.client.change_state(ACTIVATE), "activate was refused")


@contextmanager
def cleans_up(world: World, rng: Random) -> Iterator[set[str]]:
    """The whole round of the lifecycle, with a transition that is not allowed in between."""
    world.expect(not world.client.change_state(CONFIGURE), "configure was not refused while active")
    for transition in (DEACTIVATE, CLEANUP):
        world.expect(world.client.change_state(transition), f"transition {transition} was refused")
    try:
        yield set(world.names)
    finally:
        for transition in (CONFIGURE, ACTIVATE):
            world.expect(world.client.change_state(transition), f"transition {transition} was refused")


@contextmanager
def is_disabled(world: World, rng: Random) -> Iterator[set[str]]:
    """A camera is turned off by its service, and on again."""
    name = rng.choice(world.names)
    success, message = world.client.enable(name, False)
    world.expect(success, f"{name} was not disabled: {message}")
    try:
        yield {name}
    finally:
        success, message = world.client.enable(name, True)
        world.expect(success, f"{name} was not enabled: {message}")


@contextmanager
def saves_capture(world: World, rng: Random) -> Iterator[set[str]]:
    """The last seconds are kept, and saved as a recording."""
    reason = world.client.set_parameter("capture_mb", world.capture_mb)
    world.expect(not reason, f"parameter capture_mb = {world.capture_mb} was refused: {reason}")
    yield set()
    success, message = world.client.trigger("save_capture")
    world.expect(success, f"save_capture: {message}")
    world.client.set_parameter("capture_mb", 0)
    for file in (world.folder / "captures").glob("*.mcap"):
        file.unlink()


@contextmanager
def processor_is_taken(world: World, rng: Random) -> Iterator[set[str]]:
    """Other processes take all of the processor that they get."""
    with burning(world.burners):
        yield set()


@contextmanager
def process_is_stopped(world: World, rng: Random) -> Iterator[set[str]]:
    """The node gets no processor at all, as on a machine that swaps or is suspended."""
    os.kill(world.process.process.pid, signal.SIGSTOP)
    try:
        yield set(world.names)
    finally:
        os.kill(world.process.process.pid, signal.SIGCONT)


FAULTS = (
    *CAMERA_FAULTS,
    Fault("parameters change", "node", parameters_change),
    Fault("model swaps", "node", model_swaps),
    Fault("model is refused", "node", model_is_refused, (0.5, 2.0)),
    Fault("model file goes", "node", model_file_goes),
    Fault("deactivated", "node", deactivates),
    Fault("cleaned up", "node", cleans_up, (0.5, 2.0)),
    Fault("camera disabled", "node", is_disabled),
    Fault("capture saved", "node", saves_capture, (2.0, 5.0)),
    Fault("processor taken", "machine", processor_is_taken),
    Fault("process stopped", "node", process_is_stopped, (0.5, 3.0)),
)
