"""Score a model on a data set: `python -m seg_models.evaluate --checkpoint last.ckpt --data data/rooms`.

As a robot sees (the default): the image is squeezed into the network's input, and labels are scored at the size of each
mask. As the papers do: `--mode whole` or `slide`, with `--short-side`, `--scales` and `--flip` (see `inference.py`).
Further measures each have an option (docs/evaluation.md); `--report DIR` makes a page of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from seg_models.checkpoints.released import released_model, released_recipe
from seg_models.checkpoints.trained import load_task
from seg_models.data.folder import FolderDataset
from seg_models.evaluation import cost
from seg_models.evaluation.class_scores import ClassScores, class_groups
from seg_models.evaluation.corruptions import GROUPS, ROBOT_GROUPS
from seg_models.evaluation.measures import Measure
from seg_models.evaluation.onnx_file import open_deployment_file
from seg_models.evaluation.options import chosen_measures, options, protocol_of, refuse_idle_options
from seg_models.evaluation.page import ShownImage, page
from seg_models.evaluation.predictors import Predict, protocol_predictor
from seg_models.evaluation.processes import Processes, device_named, running_processes
from seg_models.evaluation.protocol import Protocol, ProtocolError, default_windows
from seg_models.evaluation.report import check_target, figures, lines, write_json, write_text
from seg_models.evaluation.robustness import robustness
from seg_models.evaluation.scoring import evaluate
from seg_models.messages import one_line
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.recipe import naming

JSON_NAME, PAGE_NAME = "report.json", "report.html"


@dataclasses.dataclass(frozen=True)
class Scored:
    """A model that is scored.

    Attributes:
        predict: what it makes of an image.
        classes: their number.
        cost: of an image (H, W, 3), see `evaluation.cost`.
        protocol: how it is scored, defaults filled in.
    """

    predict: Predict
    classes: int
    cost: Callable[[np.ndarray], dict[str, Any]]
    protocol: Protocol


def model_of(args: argparse.Namespace, num_classes: int) -> SegmentationModel:
    """The model of --checkpoint, or of --released with --recipe.

    Raises:
        ValueError: what `load_task`, `released_recipe` and `released_model` raise.
    """
    if args.checkpoint:
        return load_task(args.checkpoint).model
    recipe = released_recipe(args.recipe, args.row)
    with naming(args.recipe):
        return released_model(recipe, args.released, num_classes)


def scored_model(args: argparse.Namespace, data: FolderDataset, protocol: Protocol, device: torch.device) -> Scored:
    """The model that the options name, on the device.

    Raises:
        ProtocolError: it cannot be scored so, or has another number of classes than the data.
    """
    if args.onnx:
        if protocol != Protocol(longest_ratio=args.longest_ratio):
            raise ProtocolError(
                "a deployment model has one input size; the other modes need --checkpoint or --released"
            )
        file = open_deployment_file(args.onnx, device)
        scored = Scored(file.predict, len(file.names), lambda image: cost.file_cost(file, image, device), protocol)
    else:
        model = model_of(args, len(data.table.names)).eval()
        if args.mode == "slide":
            window, stride, small = default_windows(model, args.window, args.stride, args.small_inputs)
            protocol = dataclasses.replace(protocol, window=window, stride=stride, small_inputs=small)
        predict = protocol_predictor(model, protocol, device)

        def cost_of(image: np.ndarray) -> dict[str, Any]:
            return cost.model_cost(model, predict, image, device)

        scored = Scored(predict, model.num_classes, cost_of, protocol)
    if scored.classes != len(data.table.names):
        raise ProtocolError(
            f"the model has {scored.classes} classes, {args.data} has {len(data.table.names)}; they must match"
        )
    return scored


def run(args: argparse.Namespace, processes: Processes) -> None:
    """Score, and in the first process print and write.

    Raises:
        ValueError, OSError: what was given wrong, in one line.
    """
    if args.json:
        check_target(args.json)
    if args.report:
        args.report.mkdir(parents=True, exist_ok=True)
        check_target(args.report / PAGE_NAME)
    device = device_named(args.device, processes)
    data = FolderDataset([args.data], args.split, kind=args.kind)
    names = data.table.names
    scored = scored_model(args, data, protocol_of(args, names), device)
    scores = ClassScores(names, class_groups(names, args.group))
    asked = args.superpixels or args.all
    has_superpixels = asked and scored.predict(data.read(0)[0]).superpixels is not None
    measures = chosen_measures(args, names, has_superpixels)
    every: list[Measure] = [scores, *measures]
    evaluate(scored.predict, data, every, processes, left_out=scored.protocol.left_out)
    extra: dict[str, Any] = {}
    if args.corruptions or args.all:
        found = {
            title: robustness(scored.predict, data, groups=groups, processes=processes)
            for title, groups in (("RSSeg, Table 15", GROUPS), ("robots' cameras", ROBOT_GROUPS))
        }
        extra["robustness"] = {title: one.figures() for title, one in found.items()}
    if not processes.is_first:
        return
    if args.cost or args.all:
        extra["cost"] = scored.cost(data.read(0)[0])
    for line in lines(scores, measures, f"{args.data}/{args.split}", scored.protocol):
        print(line)
    if "robustness" in extra:
        print("\n".join(line for title, one in found.items() for line in (f"{title}:", *one.lines())))
    if "cost" in extra:
        print("\n".join(cost.lines(extra["cost"])))
    about = {"model": str(args.checkpoint or args.onnx or args.released), "data": str(args.data), "split": args.split}
    result = figures(scores, measures, about, scored.protocol) | extra
    if args.json:
        write_json(args.json, result)
    if args.report:
        worst = scores.worst(args.worst)
        result["worst"] = {data.images[index].name: miou for index, miou in worst}
        write_json(args.report / JSON_NAME, result)
        shown = [shown_image(scored.predict, data, index, miou) for index, miou in worst]
        write_text(args.report / PAGE_NAME, page(result, data.table, shown))
        print(f"wrote {args.report / PAGE_NAME}, {args.report / JSON_NAME}")


def shown_image(predict: Predict, data: FolderDataset, index: int, miou: float) -> ShownImage:
    """An image of the page, predicted once more."""
    image, labels = data.read(index)
    found = predict(image).at_size((labels.shape[0], labels.shape[1]))
    return ShownImage(data.images[index].name, miou, image, labels, found.labels, found.superpixels)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    parser = options("python -m seg_models.evaluate", (__doc__ or "").splitlines()[0])
    args = parser.parse_args(arguments)
    refuse_idle_options(parser, args)
    try:
        with running_processes() as processes:
            run(args, processes)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error, 1500)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
