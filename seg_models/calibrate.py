"""Make the confidence of a deployment file what it says.

    python -m seg_models.calibrate --onnx model.onnx --data data/mine --split calibration --check-split val --out calibrated.onnx

A temperature is fitted on images that the model was not trained on, and written into a copy of the file; labels stay as they
are. With --check-split the calibration error of other images is told, before and after.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from seg_models.data.folder import FolderDataset
from seg_models.data.layouts.opening import KINDS
from seg_models.evaluation.calibration import Calibration
from seg_models.evaluation.onnx_file import DeploymentFile, open_deployment_file
from seg_models.evaluation.protocol import ProtocolError
from seg_models.evaluation.report import check_target, write_json
from seg_models.evaluation.scoring import evaluate
from seg_models.evaluation.temperature import OBJECTIVES, fitted_odds_temperature, fitted_temperature, sampled_scores
from seg_models.export.confidence import with_temperature
from seg_models.export.errors import ExportError
from seg_models.export.file_scores import file_scores
from seg_models.export.whole_file import written_whole
from seg_models.messages import one_line

LEAST_EQUAL = 0.9999  # labels after and before: dividing rounds, which decides ties of the last bit


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="python -m seg_models.calibrate", description=(__doc__ or "").splitlines()[0])
    made.add_argument("--onnx", type=Path, required=True, help="deployment model; it is not changed")
    made.add_argument("--out", type=Path, required=True, help="the calibrated file")
    made.add_argument("--data", type=Path, required=True, help="data set on disk")
    made.add_argument("--kind", choices=KINDS, default="folder", help="how it lies there (default: %(default)s)")
    made.add_argument(
        "--split",
        required=True,
        help="to fit on: images that the model was not trained on, and not those that you report",
    )
    made.add_argument("--check-split", help="another split, whose calibration error is told before and after")
    made.add_argument(
        "--objective",
        choices=OBJECTIVES,
        default="likelihood",
        help="what the temperature makes best: the likelihood of the true classes, or the calibration error itself",
    )
    made.add_argument("--images", type=int, default=500, help="to fit on, evenly spread over the split (default: 500)")
    made.add_argument("--seed", type=int, default=0, help="of the pixels that are drawn")
    made.add_argument("--json", type=Path, help="write the figures here too")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    options = parser()
    args = options.parse_args(arguments)
    if args.images < 1:
        options.error(f"--images is {args.images}; expected at least 1")
    if args.check_split == args.split:
        options.error("--check-split is the split that is fitted on; expected another one, whose images are not seen")
    try:
        for target in (args.out, args.json):
            if target is not None:
                check_target(target)
        found = calibrate(args)
        if args.json:
            write_json(args.json, found)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error, 1500)}", file=sys.stderr)
        return 2
    print(f"temperature {found['temperature']:.4g} (of {found['images']} images of {args.data}/{args.split})")
    for split in ("fit", "check"):
        if split in found:
            before, after = (found[split][when]["ece"] for when in ("before", "after"))
            name = args.split if split == "fit" else args.check_split
            print(f"ECE on {name}: {before:.4f} before, {after:.4f} after")
    judged = found["check" if "check" in found else "fit"]
    if judged["after"]["ece"] >= judged["before"]["ece"]:
        print(
            "the error is not smaller: this confidence is not off by a factor of the scores; keep the file as it was, or try "
            "--objective ece"
        )
    print(f"wrote {args.out}; {100 * found['equal_labels']:.4f} % of the labels are as before")
    return 0


def calibrate(args: argparse.Namespace) -> dict[str, Any]:
    """Fit, write and check; returns the figures.

    Raises:
        ValueError: a file, data or a fit that does not do; nothing is written then.
    """
    before = open_deployment_file(args.onnx)
    proto = onnx.load(str(args.onnx))
    data = opened(args.data, args.split, args.kind, before)
    spread = np.linspace(0, len(data) - 1, min(len(data), args.images)).round().astype(int)
    data.keep(sorted(set(spread.tolist())))
    scores = file_scores(args.onnx, proto)
    if scores is None:
        temperature = fitted_odds_temperature(calibration_of(before, data).counts, args.objective)
    else:
        sampled = sampled_scores(scores, data, range(len(data)), args.seed)
        temperature = fitted_temperature(*sampled, args.objective)
    model = with_temperature(proto, temperature)
    after = open_deployment_file(args.onnx, content=model.SerializeToString())
    equal = equal_labels(before, after, data)
    if equal < LEAST_EQUAL:
        raise ExportError(
            f"with the temperature only {100 * equal:.2f} % of the labels of {args.onnx} stay; nothing was written"
        )
    found: dict[str, Any] = {"temperature": temperature, "images": len(data), "equal_labels": equal}
    found["fit"] = {"before": calibration_of(before, data).figures(), "after": calibration_of(after, data).figures()}
    if args.check_split:
        check = opened(args.data, args.check_split, args.kind, before)
        found["check"] = {
            "before": calibration_of(before, check).figures(),
            "after": calibration_of(after, check).figures(),
        }
    with written_whole(args.out) as file:
        onnx.save(model, str(file))
    return found


def opened(root: Path, split: str, kind: str, file: DeploymentFile) -> FolderDataset:
    """A split whose classes are the file's. Raises ProtocolError for others."""
    data = FolderDataset([root], split, kind=kind)
    if data.table.names != file.names:
        raise ProtocolError(f"{root} has other classes than {file.path}: {', '.join(data.table.names)}")
    return data


def calibration_of(file: DeploymentFile, data: FolderDataset) -> Calibration:
    """Right and wrong pixels of a data set by the file's confidence."""
    calibration = Calibration()
    evaluate(file.predict, data, [calibration])
    return calibration


def equal_labels(before: DeploymentFile, after: DeploymentFile, data: FolderDataset, limit: int = 8) -> float:
    """Share of pixels of some images whose label is the same by both."""
    chosen = np.linspace(0, len(data) - 1, min(limit, len(data))).round().astype(int).tolist()
    images = [data.read(index)[0] for index in chosen]
    return float(np.mean([(before.predict(image).labels == after.predict(image).labels).mean() for image in images]))


if __name__ == "__main__":
    sys.exit(main())
