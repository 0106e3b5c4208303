"""A run as its folder tells it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_models.training.checkpointing import MEASURE
from seg_models.training.run_folder import ENVIRONMENT, METRICS, RECIPE, read_lines
from seg_models.yaml_file import YamlError, read_yaml


class RunsError(ValueError):
    """A folder that holds no run."""


@dataclass(frozen=True)
class Run:
    """What a run's folder says; a run may still be going on.

    Attributes:
        folder: where it lies.
        recipe: of each field, by its dotted name, the value.
        started: of each start or resume its environment, see `run_folder.py`.
        losses, scores, speeds: loss, mIoU and images a second by step, ascending.
    """

    folder: Path
    recipe: dict[str, Any]
    started: list[dict[str, Any]]
    losses: dict[int, float]
    scores: dict[int, float]
    speeds: dict[int, float]

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.name

    @property
    def step(self) -> int:
        """The last one that is told of."""
        return max([*self.losses, *self.scores], default=0)

    @property
    def steps(self) -> int:
        """To make."""
        value = self.recipe.get("schedule.steps")
        return value if isinstance(value, int) else 0

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and mIoU of the best validation; None without any."""
        return max(self.scores.items(), key=lambda item: item[1]) if self.scores else None


def read_run(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        RunsError: no recipe of a run there.
    """
    try:
        content = read_yaml(folder / RECIPE)
    except (YamlError, OSError) as error:
        raise RunsError(f"{folder} holds no run: {error}; expected a folder of seg_models.train") from error
    if not isinstance(content, dict):
        raise RunsError(f"{folder / RECIPE} holds {type(content).__name__}; expected the recipe of a run")
    lines = [line for line in read_lines(folder / METRICS) if isinstance(line.get("step"), int)]

    def by_step(key: str) -> dict[int, float]:
        found = {line["step"]: line[key] for line in lines if isinstance(line.get(key), int | float)}
        return {step: float(found[step]) for step in sorted(found) if math.isfinite(found[step])}

    recipe = dict(flat(content))
    return Run(
        folder, recipe, read_lines(folder / ENVIRONMENT), by_step("loss"), by_step(MEASURE), by_step("images_per_s")
    )


def find_runs(root: Path) -> list[Run]:
    """All runs in a folder and below, by their names.

    Raises:
        RunsError: no such folder, or none in it.
    """
    if not root.is_dir():
        raise RunsError(f"no folder {root}; expected the one that runs are in, such as runs")
    folders = sorted(path.parent for path in root.rglob(RECIPE) if (path.parent / METRICS).is_file())
    if not folders:
        raise RunsError(f"no run in {root}; expected folders of seg_models.train, with {RECIPE} and {METRICS}")
    return [read_run(folder) for folder in folders]


def flat(content: dict[Any, Any], start: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as dotted names and values; an empty mapping is a value."""
    found: list[tuple[str, Any]] = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            found += flat(value, f"{start}{key}.")
        else:
            found.append((f"{start}{key}", value))
    return found
