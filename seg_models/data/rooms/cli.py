"""Command line: views, trajectory, bag. Needs bpy only in the worker processes that it starts."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from seg_models.data.rooms import bag, generate
from seg_models.data.rooms.job import RenderSettings


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m seg_models.data.rooms",
        description="Render furnished rooms with exact labels, as single views or as a walk through a room.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    views = commands.add_parser("views", help="a data set of single views, split by room")
    views.add_argument("--out", type=Path, required=True, help="folder of the data set; an unfinished one is continued")
    views.add_argument("--rooms", type=int, required=True, help="how many rooms")
    views.add_argument("--first-room", type=int, default=0, help="number, and seed, of the first room (default 0)")
    views.add_argument("--views", type=int, default=10, help="views a room (default 10)")
    views.add_argument(
        "--val-every", type=int, default=8, help="every n-th room is for validation; 0 for none (default 8)"
    )
    views.add_argument("--depth", action="store_true", help="also write depth images (16UC1, mm)")
    views.add_argument("--workers", type=int, default=1, help="rooms rendered at once (default 1)")
    views.add_argument(
        "--rich-every", type=int, default=0, help="every n-th room has one of nearly everything; 0 for none (default 0)"
    )
    views.add_argument(
        "--varied",
        action="store_true",
        help="also plain furniture, open and flat doors, windows with a view, screens that are on, clutter, hard and warm "
        "lights, cameras 0.2-1.9 m high; the same number is then another room",
    )
    _add_render_options(views, width=320, height=240, samples=6)

    walk = commands.add_parser("trajectory", help="a smooth walk through one room: images, labels, depth, poses")
    walk.add_argument(
        "--out", type=Path, required=True, help="folder of the trajectory; an unfinished one is continued"
    )
    walk.add_argument("--room", type=int, required=True, help="number, and seed, of the room")
    walk.add_argument("--frames", type=int, default=60, help="how many frames (default 60)")
    walk.add_argument("--rate", type=float, default=10.0, help="camera rate in Hz (default 10)")
    walk.add_argument("--fov", type=float, default=72.0, help="horizontal field of view in degrees (default 72)")
    walk.add_argument("--candidates", type=int, default=6, help="walks drawn, of which the one that sees most is kept")
    walk.add_argument("--walk", type=int, help="take this one of the walks drawn instead of comparing them")
    walk.add_argument(
        "--sparse", action="store_true", help="furnish as for views; without it, one of nearly everything"
    )
    _add_render_options(walk, width=480, height=360, samples=4)

    bags = commands.add_parser(
        "bag", help="an MCAP bag (ROS 2 Jazzy types) of one or more trajectories, one after another"
    )
    bags.add_argument("trajectories", type=Path, nargs="+", help="folders that `trajectory` wrote")
    bags.add_argument("--out", type=Path, required=True, help="file to write, *.mcap; must not exist")
    bags.add_argument("--depth", action="store_true", help="add /camera/depth/image_raw (16UC1, mm; large)")
    bags.add_argument("--poses", action="store_true", help="add /tf with the camera's pose in frame `room`")
    return parser


def _add_render_options(parser: argparse.ArgumentParser, width: int, height: int, samples: int) -> None:
    parser.add_argument("--size", type=int, nargs=2, default=(width, height), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument(
        "--samples", type=int, default=samples, help=f"light paths a pixel, denoised (default {samples})"
    )
    parser.add_argument(
        "--no-bump", action="store_true", help="leave out the materials' fine relief; about 1.7x faster"
    )
    parser.add_argument("--jpeg-quality", type=int, default=90)
    parser.add_argument("--threads", type=int, default=0, help="threads of a worker (default: cores / workers)")


def _render_settings(args: argparse.Namespace) -> RenderSettings:
    return RenderSettings(args.size[0], args.size[1], args.samples, not args.no_bump, args.jpeg_quality)


def _threads(requested: int, workers: int) -> int:
    if requested < 0:
        raise ValueError(f"--threads must not be negative, got {requested}")
    return requested or max(1, (os.cpu_count() or 1) // workers)


def run(args: argparse.Namespace) -> int:
    if args.command == "bag":
        summary = bag.write_bag(args.trajectories, args.out, with_depth=args.depth, with_poses=args.poses)
        print(f"{args.out}: {summary.frames} frames, {summary.seconds:.1f} s, {args.out.stat().st_size / 1e6:.1f} MB")
        return 0
    render = _render_settings(args)
    if args.command == "views":
        if args.workers < 1:
            raise ValueError(f"--workers must be at least 1, got {args.workers}")
        config = generate.ViewsConfig(args.views, args.val_every, args.depth, render, args.rich_every, args.varied)
        rooms = generate.room_numbers(args.first_room, args.rooms)
        return generate.render_data_set(args.out, rooms, config, args.workers, _threads(args.threads, args.workers))
    walk = generate.TrajectoryConfig(
        args.room, args.frames, args.rate, args.fov, args.candidates, args.walk, not args.sparse, render
    )
    return generate.render_walk(args.out, walk, _threads(args.threads, 1))


def main(argv: list[str] | None = None) -> int:
    """Run a command; a user's mistake is one line on stderr and exit status 2."""
    args = build_parser().parse_args(argv)
    try:
        return run(args)
    except (ValueError, OSError, generate.MissingRendererError) as error:
        print(f"rooms: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rooms: stopped; the same command continues", file=sys.stderr)
        return 130
