"""Subcommand that draws what models reach over what they cost."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_models.analyse.drawing import dots, write_png
from seg_models.analyse.errors import AnalysisError

COSTS = {  # name of the option: (name on the axis, unit)
    "multiply_accumulates": ("1e9 multiply-accumulates", 1e9),
    "parameters": ("1e6 parameters", 1e6),
    "network_ms": ("ms an image, network alone", 1.0),
}


@dataclass(frozen=True)
class Point:
    """A model.

    Attributes:
        name: of its checkpoint's folder or its file.
        cost: in the unit of COSTS.
        miou: in 0..1.
        data: that it was scored on.
    """

    name: str
    cost: float
    miou: float
    data: str


def trade_off(args: argparse.Namespace) -> dict[str, Any]:
    """RegProxy, Figure 2: mIoU over cost, a dot a model."""
    points = [read_point(path, args.over) for path in args.figures]
    scored_on = sorted({point.data for point in points})
    if len(scored_on) > 1:
        raise AnalysisError(f"scored on {', '.join(scored_on)}; only figures of the same images can be compared")
    points.sort(key=lambda point: point.cost)
    axis, _ = COSTS[args.over]
    drawn = [(f"{point.name} {100 * point.miou:.1f}", point.cost, 100 * point.miou) for point in points]
    write_png(args.out / "trade_off.png", dots(drawn, axis, f"mIoU in %, {scored_on[0]}"))
    found = []
    for point in points:
        # What another model gives at no more cost, nobody would take.
        better = [other.name for other in points if other.cost <= point.cost and other.miou > point.miou]
        found.append({"name": point.name, args.over: point.cost, "miou": point.miou, "beaten_by": better})
        beaten = f"  beaten by {', '.join(better)}" if better else ""
        print(f"{point.cost:10.2f} {axis}  mIoU {100 * point.miou:5.1f}  {point.name}{beaten}")
    return {"over": axis, "data": scored_on[0], "models": found, "pictures": ["trade_off"]}


def read_point(path: Path, over: str) -> Point:
    """What `seg_models.evaluate --cost --json` wrote.

    Raises:
        AnalysisError: it holds no score, no costs, or not the one that is asked for.
        OSError: it cannot be read.
    """
    expected = "expected what `seg_models.evaluate --checkpoint CKPT --cost --json FILE` writes"
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        miou, costs, model = float(read["miou"]), dict(read["cost"]), Path(read["model"])
        data = f"{Path(read['data']).name}/{read['split']}, {int(read['images'])} images"
        cost = costs["network_ms"]["median"] if over == "network_ms" else costs[over]
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise AnalysisError(f"{path} holds no score with its cost; {expected}") from error
    if cost is None:
        raise AnalysisError(f"{path}: {over} is not counted in a deployment file; give --over parameters or network_ms")
    name = model.parent.name if model.suffix == ".ckpt" else model.stem
    return Point(name, float(cost) / COSTS[over][1], miou, data)
