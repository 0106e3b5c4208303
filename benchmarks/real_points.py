"""Score models on points labelled by hand on real photos: how many are right, and the mean of that over the classes.

    python -m benchmarks.real_points --images FOLDER --models models/rooms_spt_lite0.onnx other.onnx

`real_points.yaml` beside this file says which photos belong into the folder and where they come from; `--points` takes a
file of your own: photos: {NAME: {CLASS: [[x, y], ...]}}, x and y in percent of the photo's width and height.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import yaml

from seg_perception.segmenter import Segmenter

POINTS = Path(__file__).with_suffix(".yaml")

# class -> float (N, 2), x and y in percent
Points = dict[str, np.ndarray]


def read_points(path: Path) -> dict[str, Points]:
    """Photo -> its points.

    Raises:
        ValueError: no such file, or not in the form above; names what is wrong.
    """
    if not path.is_file():
        raise ValueError(f"no points at {path}; expected a file such as {POINTS}")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("photos"), dict):
        raise ValueError(f"{path} has no mapping 'photos'; expected photos: {{NAME: {{CLASS: [[x, y], ...]}}}}")
    photos: dict[str, Points] = {}
    for name, classes in content["photos"].items():
        photos[name] = {}
        for label, places in classes.items():
            points = np.array(places, float)
            if points.ndim != 2 or points.shape[1] != 2 or points.min() < 0 or points.max() > 100:
                raise ValueError(f"{path}: {name}, {label} is {places}; expected [[x, y], ...] in percent, 0..100")
            photos[name][label] = points
    return photos


def at_points(labels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Labels (H, W) at points (N, 2) in percent: (N,)."""
    height, width = labels.shape
    x = np.minimum(points[:, 0] / 100 * width, width - 1).astype(int)
    y = np.minimum(points[:, 1] / 100 * height, height - 1).astype(int)
    return labels[y, x]


def score(model: Path, folder: Path, photos: dict[str, Points]) -> dict[str, tuple[int, int]]:
    """Class -> points that are right, and all of them.

    Raises:
        ValueError: a photo that is missing or unreadable, or a class that the model does not have.
    """
    right: dict[str, int] = defaultdict(int)
    count: dict[str, int] = defaultdict(int)
    with Segmenter(model) as segmenter:
        names = list(segmenter.info.class_names)
        for photo, classes in photos.items():
            image = cv2.imread(str(folder / photo))
            if image is None:
                raise ValueError(f"no photo at {folder / photo}; the head of the points' file says where it comes from")
            labels = segmenter.segment(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).labels
            for label, points in classes.items():
                if label not in names:
                    raise ValueError(f"{photo} has points of {label!r}; {model} knows: {', '.join(names)}")
                right[label] += int((at_points(labels, points) == names.index(label)).sum())
                count[label] += len(points)
    return {label: (right[label], count[label]) for label in sorted(count)}


def table(scores: dict[str, dict[str, tuple[int, int]]]) -> str:
    """Markdown: a row a class, a column a model; then all points, and the mean over classes."""
    models = list(scores)
    rows = [f"| class | {' | '.join(models)} |", f"|---|{'---|' * len(models)}"]
    for label in scores[models[0]]:
        cells = [f"{right} of {count}" for right, count in (scores[model][label] for model in models)]
        rows.append(f"| {label} | {' | '.join(cells)} |")
    sums = [np.array(list(scores[model].values())).sum(0) for model in models]
    means = [np.mean([right / count for right, count in scores[model].values()]) for model in models]
    rows.append(f"| all points | {' | '.join(f'{right} of {count}' for right, count in sums)} |")
    rows.append(f"| mean over classes | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit code (2: bad input, one line says what)."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_points", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="deployment models, *.onnx")
    parser.add_argument("--images", type=Path, required=True, help="folder of the photos")
    parser.add_argument("--points", type=Path, default=POINTS, help="YAML of points (default: %(default)s)")
    args = parser.parse_args(arguments)
    try:
        photos = read_points(args.points)
        scores = {model.stem: score(model, args.images, photos) for model in args.models}
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
