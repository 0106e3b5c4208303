"""The process that makes one room: `python -m seg_models.data.rooms.worker '<job>'`, started by the command line.

One process a room, because Blender keeps state between scenes. Needs bpy and infinigen.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import bpy
import cv2
import numpy as np

bpy.context.preferences.system.use_online_access = False  # infinigen would look for add-ons that are not needed here
import infinigen  # noqa: E402

from seg_models.data.rooms import recording  # noqa: E402
from seg_models.data.rooms.cameras import VARIED_CAMERAS, CameraRange, Intrinsics, draw_view  # noqa: E402
from seg_models.data.rooms.classes import CLASSES  # noqa: E402
from seg_models.data.rooms.floor_plan import FloorPlan  # noqa: E402
from seg_models.data.rooms.job import (  # noqa: E402
    REPORT_PREFIX,
    RenderSettings,
    TrajectoryJob,
    ViewsJob,
    load_job,
    write_json,
)
from seg_models.data.rooms.materials import remove_bump  # noqa: E402
from seg_models.data.rooms.render import Renderer  # noqa: E402
from seg_models.data.rooms.scene import build_room  # noqa: E402
from seg_models.data.rooms.trajectory import Walk, draw_walk  # noqa: E402
from seg_models.data.rooms.view_check import reject_reason  # noqa: E402

VIEWS_STREAM, WALK_STREAM = 1, 2  # random streams beside the room's own (0)
EXPOSURE_STOPS = (-0.7, 0.6)  # mean and standard deviation over views, as cameras of robots are set dark to bright


def report(text: str) -> None:
    print(REPORT_PREFIX + text, flush=True)


def write_image(path: Path, image: np.ndarray) -> None:
    part = path.with_name(f".part_{path.name}")  # a stopped run leaves no half-written image behind
    if not cv2.imwrite(str(part), image):
        raise OSError(f"{path}: the image could not be written; is the disk full?")
    part.replace(path)


def make_renderer(settings: RenderSettings, threads: int, scratch: str) -> Renderer:
    if not settings.bump:
        remove_bump()
    return Renderer(settings.samples, threads, Path(scratch), settings.jpeg_quality)


def render_views(job: ViewsJob, scratch: str) -> None:
    started = time.monotonic()
    out, room = Path(job.out), f"{job.room:04d}"
    plan = build_room(job.room, job.rich, job.varied)
    build_s = time.monotonic() - started
    renderer = make_renderer(job.render, job.threads, scratch)
    rng = np.random.default_rng([job.room, VIEWS_STREAM])
    cameras = VARIED_CAMERAS if job.varied else CameraRange()
    folders = {kind: out / kind / job.split for kind in ("images", "labels", "poses", "depth")}
    for kind, folder in folders.items():
        if kind != "depth" or job.depth:
            folder.mkdir(parents=True, exist_ok=True)

    views: list[dict] = []
    dropped: Counter[str] = Counter()
    tries = 0
    while len(views) < job.views and tries < 5 * job.views:
        tries += 1
        drawn = draw_view(rng, plan, job.render.width, job.render.height, cameras=cameras)
        if drawn is None:
            dropped["no free spot"] += 1
            continue
        pose, intrinsics = drawn
        labels, depth = renderer.labels_and_depth(pose, intrinsics)
        reason = reject_reason(labels, depth)
        if reason is not None:
            dropped[reason] += 1
            continue
        name = f"{room}_{len(views):04d}"
        exposure_stops = float(rng.normal(*EXPOSURE_STOPS))
        renderer.colour(pose, intrinsics, folders["images"] / f"{name}.jpg", exposure_stops)
        write_image(folders["labels"] / f"{name}.png", labels)
        if job.depth:
            write_image(folders["depth"] / f"{name}.png", recording.depth_to_millimetres(depth))
        views.append(
            {
                "name": name,
                "position": pose.position,
                "quaternion_xyzw": pose.quaternion,
                "intrinsics": intrinsics.to_dict(),
                "exposure_stops": exposure_stops,
                "pixels": np.bincount(labels.ravel(), minlength=256)[: len(CLASSES)].tolist(),
            }
        )
    content = {
        "room": job.room,
        "split": job.split,
        "size_m": [plan.width, plan.depth, plan.height],
        "build_s": round(build_s, 1),
        "seconds": round(time.monotonic() - started, 1),
        "dropped": dict(dropped),
        "views": views,
    }
    write_json(folders["poses"] / f"{room}.json", content)


def numbered_walk(job: TrajectoryJob, plan: FloorPlan, number: int) -> Walk:
    return draw_walk(np.random.default_rng([job.room, WALK_STREAM, number]), plan, job.frames, job.rate_hz)


def choose_walk(job: TrajectoryJob, renderer: Renderer, plan: FloorPlan) -> Walk:
    """Draw several walks and keep the one that shows most classes, with few views that would be dropped."""
    preview = Intrinsics.from_fov(96, 72, job.horizontal_fov_deg)
    best: tuple[float, int, Walk] | None = None
    for candidate in range(job.candidates):
        walk = numbered_walk(job, plan, candidate)
        score = 0.0
        seen: Counter[int] = Counter()
        for i in np.linspace(0, job.frames - 1, 7).astype(int):
            labels, depth = renderer.labels_and_depth(walk.poses[i], preview)
            for value, count in zip(*np.unique(labels, return_counts=True), strict=True):
                seen[int(value)] += int(count)
            score -= 2.0 * (reject_reason(labels, depth) is not None)
        score += sum(1.0 for count in seen.values() if count > 60)
        if best is None or score > best[0]:
            best = (score, candidate, walk)
    if best is None:
        raise ValueError(f"a trajectory needs at least 1 candidate, got {job.candidates}")
    report(f"room {job.room}: walk {best[1]} of {job.candidates} sees most")
    return best[2]


def begin_walk(job: TrajectoryJob, renderer: Renderer, plan: FloorPlan, poses_file: Path) -> Walk:
    """The walk that was begun in this folder, or a new one."""
    if poses_file.is_file():
        return Walk(*recording.read_poses(poses_file))
    walk = choose_walk(job, renderer, plan) if job.walk is None else numbered_walk(job, plan, job.walk)
    recording.write_poses(poses_file, walk.stamps_ns, walk.poses)
    return walk


def render_trajectory(job: TrajectoryJob, scratch: str) -> None:
    started = time.monotonic()
    out = Path(job.out)
    plan = build_room(job.room, job.rich)
    renderer = make_renderer(job.render, job.threads, scratch)
    walk = begin_walk(job, renderer, plan, out / "poses.csv")
    intrinsics = Intrinsics.from_fov(job.render.width, job.render.height, job.horizontal_fov_deg)
    folders = {kind: out / kind for kind in ("images", "labels", "depth")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    recording.write_camera(out / "camera.yaml", intrinsics)
    report(f"room {job.room}: built and path chosen in {time.monotonic() - started:.0f} s")
    for index, pose in enumerate(walk.poses):
        name = recording.frame_name(index)
        if (folders["labels"] / f"{name}.png").is_file():  # written last: the frame is complete
            continue
        frame_started = time.monotonic()
        labels, depth = renderer.labels_and_depth(pose, intrinsics)
        renderer.colour(pose, intrinsics, folders["images"] / f"{name}.jpg")
        write_image(folders["depth"] / f"{name}.png", recording.depth_to_millimetres(depth))
        write_image(folders["labels"] / f"{name}.png", labels)
        report(f"room {job.room}: frame {index + 1}/{job.frames}, {time.monotonic() - frame_started:.1f} s")


def main() -> None:
    job = load_job(sys.argv[1])
    logging.disable(logging.WARNING)
    os.chdir(Path(infinigen.__file__).parent.parent)  # infinigen opens its resources relative to the working directory
    with tempfile.TemporaryDirectory(prefix="rooms_") as scratch:
        if isinstance(job, ViewsJob):
            render_views(job, scratch)
        else:
            render_trajectory(job, scratch)


if __name__ == "__main__":
    main()
