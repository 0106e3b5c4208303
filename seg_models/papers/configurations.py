"""The configurations of the papers' tables with the figures printed there, and what else is built here.

The tables are data, one file a paper beside this one, and `linear.yaml` for the baseline that three of them compare with.
Entries without a source are not in any table: other backbones and forms that the papers describe. `summary.py` counts all of
them, and a test holds the figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from seg_models.build import build_model
from seg_models.segmentation_model import SegmentationModel

PAPERS = ("linear", "segmenter", "regproxy", "segvit", "rsseg", "superpixel_transformer")


@dataclass(frozen=True)
class Configuration:
    """A model of a paper's table.

    Attributes:
        name: unique, in the paper's words.
        architecture, backbone, classes, size, options: arguments of `build_model`; size is (H, W).
        params_m: millions of parameters as printed, None where nothing is.
        gmac: 1e9 multiply-accumulates as printed (all five papers call them FLOPs), None where nothing is.
        fps: images a second as printed, on a V100 (RegProxy does not say on what), None where nothing is.
        source: table of the figures.
        rule: name of the paper's counting rule in `summary.RULES`, where it is not the common one.
        windows: sliding windows of `size` that the printed multiply-accumulates cover.
        note: why a figure here is not the printed one, where they differ by more than 1 % or by rounding.
        noted_percent: by how much the multiply-accumulates here differ from the printed ones, where the note says why.
    """

    name: str
    architecture: str
    backbone: str
    classes: int
    size: tuple[int, int]
    options: dict[str, Any] = field(default_factory=dict)
    params_m: float | None = None
    gmac: float | None = None
    fps: float | None = None
    source: str = ""
    rule: str = "common"
    windows: int = 1
    note: str = ""
    noted_percent: float | None = None

    def build(self) -> SegmentationModel:
        """The model, with random weights; under `torch.device("meta")` it takes no memory."""
        return build_model(self.architecture, self.backbone, self.classes, self.size, **self.options)


def read_tables(path: Path) -> list[Configuration]:
    """The rows of a paper's file; what a table says of all of its rows is overruled by a row's own."""
    tables = yaml.safe_load(path.read_text(encoding="utf-8"))["tables"]
    rows = ({**table, **row} for table in tables for row in table.pop("rows"))
    return [Configuration(**{**row, "size": tuple(row["size"])}) for row in rows]


CONFIGURATIONS: tuple[Configuration, ...] = tuple(
    row for paper in PAPERS for row in read_tables(Path(__file__).with_name(f"{paper}.yaml"))
)
