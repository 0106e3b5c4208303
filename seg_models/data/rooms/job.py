"""What one worker process is asked to do: one room, as single views or as a trajectory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

REPORT_PREFIX = "rooms| "  # lines of a worker that are meant for the user; everything else goes to its log


@dataclass(frozen=True)
class RenderSettings:
    """Settings that shape every image.

    `bump` off leaves out the fine relief of materials: hardly visible at these sizes, and about 1.7 times faster.
    """

    width: int
    height: int
    samples: int
    bump: bool
    jpeg_quality: int

    def __post_init__(self) -> None:
        if self.width < 16 or self.height < 16:
            raise ValueError(f"image size {self.width}x{self.height} is too small; at least 16x16")
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"JPEG quality must be 1-100, got {self.jpeg_quality}")


@dataclass(frozen=True)
class ViewsJob:
    """Single views of one room, written under `out` (split folders `images`, `labels`, `poses`, `depth`)."""

    room: int
    out: str
    split: str
    views: int
    depth: bool
    render: RenderSettings
    threads: int
    rich: bool = False  # one of nearly everything, as in a trajectory's room
    varied: bool = False  # see `variety.py`


@dataclass(frozen=True)
class TrajectoryJob:
    """One walk through one room, written under `out` (`images`, `labels`, `depth`, `poses.csv`, `camera.yaml`)."""

    room: int
    out: str
    frames: int
    rate_hz: float
    horizontal_fov_deg: float
    candidates: int
    walk: int | None  # take this candidate; None compares them and takes the one that sees most
    rich: bool
    render: RenderSettings
    threads: int


def dump_job(job: ViewsJob | TrajectoryJob) -> str:
    kind = "views" if isinstance(job, ViewsJob) else "trajectory"
    return json.dumps({"kind": kind, **asdict(job)})


def load_job(text: str) -> ViewsJob | TrajectoryJob:
    fields = json.loads(text)
    kind = fields.pop("kind")
    fields["render"] = RenderSettings(**fields["render"])
    return (ViewsJob if kind == "views" else TrajectoryJob)(**fields)


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file that is either whole or absent: a finished file is what marks a room as done."""
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)
