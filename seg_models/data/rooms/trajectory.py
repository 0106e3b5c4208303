"""A smooth walk through a room: positions, viewing directions and poses in time. Pure numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from seg_models.data.rooms.cameras import Pose
from seg_models.data.rooms.floor_plan import FloorPlan

START_NS = 1_700_000_000_000_000_000  # a fixed start of time: the same trajectory gives the same stamps
BOB_HZ = 1.7  # steps a second of a slow walk
BOB_M = 0.008


@dataclass(frozen=True)
class Walk:
    """A walk of N frames: stamps (int64 [N], ns) and poses (N)."""

    stamps_ns: np.ndarray
    poses: list[Pose]


def catmull_rom(points: np.ndarray, samples: int) -> np.ndarray:
    """Smooth curve through points [K, D], K >= 2, sampled `samples` times evenly in arc length: float [samples, D]."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])  # (K + 2, D)
    t = np.linspace(0, 1, 50, endpoint=False)[:, None]
    pieces = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        a = 2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
        pieces.append(a / 2)
    curve = np.concatenate([*pieces, points[-1:]])  # (50 (K - 1) + 1, D)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    wanted = np.linspace(0, length[-1], samples)
    return np.stack([np.interp(wanted, length, curve[:, d]) for d in range(points.shape[1])], axis=1)


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Moving average over `width` samples (odd) with the ends repeated; float [N]."""
    if width % 2 == 0 or width < 1:
        raise ValueError(f"smoothing width {width} must be a positive odd number")
    padded = np.pad(values, width // 2, mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")


def draw_path(
    rng: np.random.Generator, plan: FloorPlan, length_m: float, clearance_m: float, samples: int
) -> np.ndarray | None:
    """Draw a curve of free floor, about `length_m` long: float [samples, 2], or None if none was found."""
    for _ in range(400):
        start = rng.uniform((0.0, 0.0), (plan.width, plan.depth))
        heading = rng.uniform(-math.pi, math.pi)
        knots = [start]
        for _ in range(3):
            heading += rng.normal(0, 0.6)
            knots.append(knots[-1] + length_m / 3 * np.array([math.cos(heading), math.sin(heading)]))
        curve = catmull_rom(np.array(knots), samples)
        if plan.clearance(curve).min() >= clearance_m:
            return curve
    return None


def gaze(rng: np.random.Generator, plan: FloorPlan, path: np.ndarray) -> np.ndarray:
    """Viewing direction (yaw, rad, unwrapped, [N]) along a path [N, 2]: it sweeps slowly over the open side of the room.

    The middle of the sweep is the furniture's direction weighted by how far it is, so that the camera does not stare at
    the next wall; the sweep is 50-90 degrees wide.
    """
    n = len(path)
    middle = (plan.width / 2, plan.depth / 2)
    targets = np.array([(f.x, f.y) for f in plan.footprints] or [middle])  # (F, 2)
    offset = targets[None] - path[:, None]  # (N, F, 2)
    distance = np.linalg.norm(offset, axis=-1, keepdims=True)
    weight = np.clip(distance - 0.8, 0, 2.5)
    mean = (weight * offset / np.maximum(distance, 1e-6)).sum(axis=1)  # (N, 2)
    base = np.unwrap(np.arctan2(mean[:, 1], mean[:, 0]))
    sweep = math.radians(float(rng.uniform(50, 90))) * float(rng.choice([-1.0, 1.0]))
    yaw = base + sweep * np.linspace(-0.5, 0.5, n)
    return smooth(yaw, max(3, n // 6 // 2 * 2 + 1))


def draw_walk(
    rng: np.random.Generator,
    plan: FloorPlan,
    frames: int,
    rate_hz: float,
    start_ns: int = START_NS,
    speed_m_s: float = 0.4,
    clearance_m: float = 0.35,
) -> Walk:
    """Draw a walk through a room.

    Args:
        rng: generator of the walk.
        plan: the room.
        frames: how many poses.
        rate_hz: camera rate.
        start_ns: stamp of the first frame.
        speed_m_s: mean walking speed.
        clearance_m: least distance to walls and furniture.

    Raises:
        ValueError: frames or rate not positive, or the room has no free path of that length.
    """
    if frames < 2 or rate_hz <= 0:
        raise ValueError(
            f"a trajectory needs at least 2 frames and a positive rate, got {frames} frames at {rate_hz} Hz"
        )
    seconds = (frames - 1) / rate_hz
    path = None
    for shrink in (1.0, 0.8, 0.6, 0.4):
        path = draw_path(rng, plan, shrink * speed_m_s * seconds, clearance_m, frames)
        if path is not None:
            break
    if path is None:
        raise ValueError(
            f"no free path in this room of {plan.width:.1f} x {plan.depth:.1f} m; take another room number"
        )
    yaw = gaze(rng, plan, path)
    t = np.arange(frames) / rate_hz
    height = float(rng.uniform(1.1, 1.45))
    pitch = -0.16 + 0.05 * np.sin(2 * math.pi * t / seconds + rng.uniform(0, 6))
    z = height + BOB_M * np.sin(2 * math.pi * BOB_HZ * t)
    roll = 0.006 * np.sin(math.pi * BOB_HZ * t)
    poses = [Pose.looking(np.array([*path[i], z[i]]), yaw[i], pitch[i], roll[i]) for i in range(frames)]
    stamps = start_ns + np.rint(np.arange(frames) * 1e9 / rate_hz).astype(np.int64)
    return Walk(stamps, poses)
