"""Starts the workers, shows progress and keeps track of what is done, so that a stopped run can be continued."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from seg_models.data.rooms.classes import write_classes_yaml
from seg_models.data.rooms.job import REPORT_PREFIX, RenderSettings, TrajectoryJob, ViewsJob, dump_job, write_json

GENERATOR_VERSION = 1  # raise when the same seed no longer gives the same room
REPOSITORY = Path(__file__).resolve().parents[3]


class MissingRendererError(RuntimeError):
    """bpy or infinigen is not installed in this Python."""


@dataclass(frozen=True)
class ViewsConfig:
    """What every room of a data set has in common."""

    views: int
    val_every: int
    depth: bool
    render: RenderSettings
    rich_every: int = 0
    varied: bool = False

    def __post_init__(self) -> None:
        if self.rich_every < 0:
            raise ValueError(f"--rich-every must not be negative, got {self.rich_every}")
        if self.views < 1:
            raise ValueError(f"--views must be at least 1, got {self.views}")
        if self.val_every < 0:
            raise ValueError(f"--val-every must not be negative, got {self.val_every}")

    def split(self, room: int) -> str:
        """`train` or `val`; a matter of the room's number alone, so that a data set can grow."""
        return "val" if self.val_every and room % self.val_every == self.val_every - 1 else "train"

    def is_rich(self, room: int) -> bool:
        """Whether the room gets one of nearly everything; a matter of its number alone, too."""
        return bool(self.rich_every) and room % self.rich_every == 0

    def job(self, room: int, out: Path, threads: int) -> ViewsJob:
        """What the worker of a room is asked to do."""
        return ViewsJob(
            room,
            str(out),
            self.split(room),
            self.views,
            self.depth,
            self.render,
            threads,
            self.is_rich(room),
            self.varied,
        )

    def settings(self) -> dict:
        """What `config.json` keeps of it. Options that are off are left out, so that older folders can be continued."""
        content = {"kind": "views", **asdict(self)}
        return {k: v for k, v in content.items() if v or k not in ("rich_every", "varied")}


@dataclass(frozen=True)
class TrajectoryConfig:
    """One walk."""

    room: int
    frames: int
    rate_hz: float
    horizontal_fov_deg: float
    candidates: int
    walk: int | None
    rich: bool
    render: RenderSettings

    def __post_init__(self) -> None:
        if self.room < 0:
            raise ValueError(f"--room must not be negative, got {self.room}")
        if self.frames < 2 or self.rate_hz <= 0 or self.candidates < 1:
            raise ValueError(
                "a trajectory needs --frames >= 2, --rate > 0 and --candidates >= 1, "
                f"got {self.frames}, {self.rate_hz} and {self.candidates}"
            )
        if self.walk is not None and self.walk < 0:
            raise ValueError(f"--walk must not be negative, got {self.walk}")
        if not 10 <= self.horizontal_fov_deg <= 150:
            raise ValueError(f"--fov must be 10-150 degrees, got {self.horizontal_fov_deg}")


def room_numbers(first: int, count: int) -> list[int]:
    """Numbers of `count` rooms from `first`.

    Raises:
        ValueError: a negative first room, no rooms, or a number of more than four digits.
    """
    if first < 0 or count < 1 or first + count > 10000:
        raise ValueError(f"--first-room and --rooms must give room numbers 0..9999, got {first} and {count}")
    return list(range(first, first + count))


def require_renderer() -> None:
    """Check that bpy and infinigen are installed, without importing them.

    Raises:
        MissingRendererError: with the commands that install them.
    """
    missing = [name for name in ("bpy", "infinigen") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingRendererError(
            f"{' and '.join(missing)} not installed in {sys.executable}; rendering needs its own Python 3.11 environment: "
            "run `make rooms-env` and use .venv-rooms/bin/python (docs/rooms.md)"
        )


def open_output(out: Path, config: dict) -> None:
    """Make an output folder, or check that an existing one was begun with the same configuration.

    Raises:
        ValueError: the folder holds something else, or output of a different configuration.
    """
    path = out / "config.json"
    config = json.loads(json.dumps({"generator_version": GENERATOR_VERSION, **config}))
    if path.is_file():
        before = json.loads(path.read_text())
        differing = sorted(k for k in before.keys() | config.keys() if before.get(k) != config.get(k))
        if differing:
            changes = ", ".join(f"{k} {before.get(k)} -> {config.get(k)}" for k in differing)
            raise ValueError(f"{out} was begun with a different configuration ({changes}); give another --out")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not output of this generator; give a new or empty folder as --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, config)


def worker_command(job: ViewsJob | TrajectoryJob) -> list[str]:
    return [sys.executable, "-m", "seg_models.data.rooms.worker", dump_job(job)]


class Workers:
    """Runs worker processes, one a room, and ends them when the run is stopped."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.running: set[subprocess.Popen] = set()
        self.lock = threading.Lock()
        self.stopped = False
        logs.mkdir(exist_ok=True)

    def run(self, job: ViewsJob | TrajectoryJob, show: bool) -> None:
        """Run one worker to its end; everything it prints goes to its log, its reports also to the screen if `show`.

        Raises:
            RuntimeError: the worker failed; names the log and its last error line.
        """
        log = self.logs / f"{job.room:04d}.log"
        with self.lock:
            if self.stopped:
                return
            process = subprocess.Popen(
                worker_command(job),
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            self.running.add(process)
        last_error = ""
        assert process.stdout is not None
        with log.open("w") as file, process.stdout:
            for line in process.stdout:
                file.write(line)
                if line.startswith(REPORT_PREFIX) and show:
                    print(line.removeprefix(REPORT_PREFIX).rstrip(), flush=True)
                elif "Error:" in line:
                    last_error = line.strip()
        status = process.wait()
        with self.lock:
            self.running.discard(process)
        if status != 0 and not self.stopped:
            cause = last_error or "no message"
            raise RuntimeError(f"room {job.room}: the worker ended with status {status} ({cause}); see {log}")

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()


def render_data_set(out: Path, rooms: list[int], config: ViewsConfig, workers: int, threads: int) -> int:
    """Render the rooms of a data set that are not there yet.

    Returns:
        0, or 1 if a room failed (each is reported; the others are rendered).

    Raises:
        ValueError: `out` belongs to something else.
        MissingRendererError: bpy or infinigen is missing.
    """
    require_renderer()
    out = out.resolve()
    open_output(out, config.settings())
    write_classes_yaml(out / "classes.yaml")
    todo = [room for room in rooms if not _room_file(out, config, room).is_file()]
    print(f"{len(rooms)} rooms, {len(rooms) - len(todo)} done before, {len(todo)} to render", flush=True)
    started, failed = time.monotonic(), 0
    pool = Workers(out / "logs")
    with ThreadPoolExecutor(workers) as executor:
        jobs = {executor.submit(pool.run, config.job(room, out, threads), False): room for room in todo}
        try:
            for done, future in enumerate(as_completed(jobs), start=1):
                left_s = (time.monotonic() - started) / done * (len(todo) - done)
                try:
                    future.result()
                except RuntimeError as error:
                    failed += 1
                    print(f"rooms: {error}", file=sys.stderr, flush=True)
                else:
                    summary = _room_summary(out, config, jobs[future])
                    print(f"[{done}/{len(todo)}] {summary}, {left_s / 60:.0f} min left", flush=True)
        except BaseException:
            pool.stop()
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return 1 if failed else 0


def _room_file(out: Path, config: ViewsConfig, room: int) -> Path:
    return out / "poses" / config.split(room) / f"{room:04d}.json"


def _room_summary(out: Path, config: ViewsConfig, room: int) -> str:
    content = json.loads(_room_file(out, config, room).read_text())
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(content["dropped"].items()))
    kept, seconds = len(content["views"]), content["seconds"]
    return f"room {room:04d} ({content['split']}): {kept} views, dropped: {dropped or 'none'}, {seconds:.0f} s"


def render_walk(out: Path, config: TrajectoryConfig, threads: int) -> int:
    """Render one trajectory, or the frames of it that are not there yet.

    Returns:
        0, or 1 if the worker failed.

    Raises:
        ValueError: `out` belongs to something else.
        MissingRendererError: bpy or infinigen is missing.
    """
    require_renderer()
    out = out.resolve()
    open_output(out, {"kind": "trajectory", **asdict(config)})
    write_classes_yaml(out / "classes.yaml")
    fields = {name: getattr(config, name) for name in TrajectoryConfig.__dataclass_fields__}
    pool = Workers(out / "logs")
    try:
        pool.run(TrajectoryJob(out=str(out), threads=threads, **fields), True)
    except RuntimeError as error:
        print(f"rooms: {error}", file=sys.stderr)
        return 1
    except BaseException:
        pool.stop()
        raise
    return 0
