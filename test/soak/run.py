"""A soak from its first image to its last: the node, cameras, listeners; every fault once, then faults at random."""

from __future__ import annotations

import os
import shutil
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from seg_perception.process.environment import describe_environment
from seg_perception.process.ros_environment import free_domain_id, ros_process_environment
from test.seg_perception.node_diagnostics import Figures, figures
from test.seg_perception.node_process import NodeProcess
from test.seg_perception.tiny_model import write_tiny_association_model, write_tiny_model
from test.soak.camera import SimulatedCamera
from test.soak.checks import MaskChecks
from test.soak.faults import Episode, Fault, episodes
from test.soak.memory import MemorySampler
from test.soak.node_faults import FAULTS
from test.soak.outcome import Endured, Outcome, Settings
from test.soak.pictures import Album, recorded_album, tiny_album
from test.soak.world import NAME, Listener, NodeClient, World

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "models/rooms_spt_lite0.onnx"
RECORDING = ROOT / "bags/rooms_demo.mcap"
REHEARSED_S = 0.4  # how long a fault lasts when every one comes once
CALM_S = 2.0
CAPTURE_MB = {True: 2, False: 40}  # of tiny models' small pictures; of 640x480
START_S = 600.0  # until every camera has a mask: on a machine that others load, loading a model may take minutes

Tell = Callable[[str], None]


def soak(settings: Settings, folder: Path, tell: Tell, faults: Sequence[Fault] = FAULTS) -> Outcome:
    """Run it.

    Args:
        settings: of the run.
        folder: for models, captures and the node's log files; it exists.
        tell: takes a line on what happens.
        faults: that may happen.

    Raises:
        AssertionError, TimeoutError: the node does not come up, or a service of it does not answer.
    """
    environment = ros_process_environment(free_domain_id())
    environment["ROS_LOG_DIR"] = str(folder / "log")
    os.environ.update(environment)
    models = _models(settings, folder)
    engines = _engines(settings)
    process = _node(settings, environment, folder, models[0], engines[0])
    try:
        process.wait_for("active: listening to", timeout_s=START_S)
        with _spinning() as node:
            diagnosed = array("d")
            _listen_to_diagnostics(node, diagnosed)
            world = _world(settings, folder, process, node, models, engines, tell)
            try:
                return _run(settings, world, faults, diagnosed, tell)
            finally:
                for camera in world.cameras.values():
                    camera.close()
    finally:
        if process.alive:
            process.process.kill()


def _run(settings: Settings, world: World, faults: Sequence[Fault], diagnosed: array[float], tell: Tell) -> Outcome:
    began_s = time.monotonic()
    if _recovery_s(world, began_s, START_S) is None:
        raise AssertionError(f"no masks of every camera after {START_S:.0f} s: {world.process.lines[-10:]}")
    rng = Random(settings.seed)
    endured: list[Endured] = []
    for fault in faults:
        episode = Episode((fault,), REHEARSED_S, rng.randrange(2**32), 0.0)
        endured.append(_endure(episode, settings, world, began_s, True, tell))
        if not world.process.alive:
            break
    time.sleep(CALM_S)
    random_s = time.monotonic()
    before = _figures(world)
    memory = MemorySampler(world.process.process.pid, min(1.0, max(0.1, settings.minutes / 50)))
    for episode in episodes(settings.seed, faults):
        if not world.process.alive or time.monotonic() > random_s + 60 * settings.minutes:
            break
        endured.append(_endure(episode, settings, world, began_s, False, tell))
        time.sleep(episode.calm_s)
    time.sleep(CALM_S)
    memory.close()
    after = _figures(world)
    gap_s = float(np.diff([began_s, *diagnosed, time.monotonic()]).max())
    exit_code = world.process.stop() if world.process.alive else None
    return Outcome(
        settings,
        {**describe_environment(), "load average at the end": " ".join(f"{load:.1f}" for load in os.getloadavg())},
        began_s,
        random_s,
        world.checks,
        endured,
        memory,
        before,
        after,
        gap_s,
        world.notes,
        world.process.lines,
        exit_code,
    )


def _endure(
    episode: Episode, settings: Settings, world: World, began_s: float, is_rehearsal: bool, tell: Tell
) -> Endured:
    rng = Random(episode.seed)
    concerned: set[str] = set()
    begin_s = time.monotonic()
    notes = len(world.notes)
    try:
        with ExitStack() as faults:
            for fault in episode.faults:
                concerned |= faults.enter_context(fault.act(world, rng))
            time.sleep(episode.seconds)
    except TimeoutError as error:
        world.notes.append(f"{episode.name}: {error}")
    end_s = time.monotonic()
    recovery_s = _recovery_s(world, end_s, settings.patience_s)
    others = [checks for name, checks in world.checks.items() if name not in concerned]
    gap_s = max((checks.longest_gap_s(begin_s, end_s) for checks in others), default=None)
    for note in world.notes[notes:]:
        tell(f"{episode.name}: {note}")
    recovered = "NOT RECOVERED" if recovery_s is None else f"recovered in {recovery_s:.2f} s"
    gap = "" if gap_s is None else f", others without masks {gap_s:.2f} s at most"
    tell(f"{begin_s - began_s:7.1f} s  {episode.name}, {end_s - begin_s:.1f} s: {recovered}{gap}")
    return Endured(episode.name, begin_s - began_s, end_s - began_s, recovery_s, gap_s, is_rehearsal)


def _recovery_s(world: World, since_s: float, patience_s: float) -> float | None:
    """Until every camera has a mask of an image sent since then; None: not in time."""
    for checks in world.checks.values():
        checks.ask_after(since_s)
    while time.monotonic() < since_s + patience_s and world.process.alive:
        recovered = [checks.recovered_s() for checks in world.checks.values()]
        known = [moment for moment in recovered if moment is not None]
        if len(known) == len(recovered):
            return max(known) - since_s
        time.sleep(0.01)
    return None


def _figures(world: World) -> Figures | None:
    return figures(world.process.process.pid) if world.process.alive else None


def _models(settings: Settings, folder: Path) -> list[Path]:
    """Copies that may be moved and damaged; all give the same labels."""
    if settings.is_tiny:
        return [write_tiny_model(folder / "one.onnx"), write_tiny_association_model(folder / "two.onnx")]
    return [Path(shutil.copyfile(SHIPPED, folder / f"{name}.onnx")) for name in ("one", "two")]


def _engines(settings: Settings) -> list[tuple[str, str]]:
    """Engine and precision; the first serves at the start."""
    if settings.is_tiny:
        return [("onnxruntime", "f32"), ("openvino", "f32")]
    return [("openvino", "f32"), ("openvino", "fast"), ("onnxruntime", "f32")]


def _albums(settings: Settings) -> dict[str, Album]:
    if settings.is_tiny:
        return {name: tiny_album(settings.seed + number) for number, name in enumerate(settings.cameras)}
    return {name: recorded_album(RECORDING, SHIPPED, 5 + 30 * number) for number, name in enumerate(settings.cameras)}


def _topic(settings: Settings, name: str) -> str:
    """The last of several cameras is compressed."""
    is_compressed = name == settings.cameras[-1] and len(settings.cameras) > 1
    return f"/{name}/image/compressed" if is_compressed else f"/{name}/image"


def _node(
    settings: Settings, environment: dict[str, str], folder: Path, model: Path, engine: tuple[str, str]
) -> NodeProcess:
    topics = {f"{name}.image": _topic(settings, name) for name in settings.cameras}
    return NodeProcess(
        environment,
        NAME,
        cameras=list(settings.cameras),
        model=model,
        engine=engine[0],
        precision=engine[1],
        capture_folder=folder / "captures",
        **topics,
    )


def _world(
    settings: Settings,
    folder: Path,
    process: NodeProcess,
    node: Any,
    models: list[Path],
    engines: list[tuple[str, str]],
    tell: Tell,
) -> World:
    albums = _albums(settings)
    checks = {name: MaskChecks(name, albums[name].least_agreement, tell) for name in settings.cameras}
    listeners = {name: Listener(node, name, checks[name]) for name in settings.cameras}
    cameras = {
        name: SimulatedCamera(
            node, _topic(settings, name), albums[name], checks[name], settings.rate_hz, f"{name}_optical_frame"
        )
        for name in settings.cameras
    }
    client = NodeClient(node)
    return World(
        process,
        client,
        cameras,
        checks,
        listeners,
        models,
        engines,
        folder,
        settings.burners,
        CAPTURE_MB[settings.is_tiny],
    )


@contextmanager
def _spinning() -> Iterator[Any]:
    """A node of this process, in a context of its own."""
    import rclpy
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    context = Context()
    rclpy.init(context=context)
    executor = SingleThreadedExecutor(context=context)
    node = Node("soak", context=context, start_parameter_services=False)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, name="spin", daemon=True)
    thread.start()
    try:
        yield node
    finally:
        executor.shutdown()
        thread.join(timeout=10)
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def _listen_to_diagnostics(node: Any, diagnosed: array[float]) -> None:
    from diagnostic_msgs.msg import DiagnosticArray

    node.create_subscription(DiagnosticArray, "/diagnostics", lambda _: diagnosed.append(time.monotonic()), 10)
