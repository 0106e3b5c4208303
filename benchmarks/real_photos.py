"""How models do on real photos, to look at: photo | labels of each model | superpixels of the last, a row each, with a legend.

    python -m benchmarks.real_photos --models models/rooms_spt_lite0.onnx --images FOLDER --out models/real_photos.jpg

This gives no figure (`benchmarks.real_points` does); what it shows goes into the model card.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from seg_perception.labels import overlay, superpixel_boundaries
from seg_perception.segmenter import Segmenter

TILE = (320, 240)


def row(rgb: np.ndarray, segmenters: list[Segmenter]) -> tuple[np.ndarray, np.ndarray]:
    """One photo's panels side by side and the class ids in them."""
    results = [segmenter.segment(rgb) for segmenter in segmenters]
    panels = [rgb]
    for segmenter, result in zip(segmenters, results, strict=True):
        panels.append(overlay(rgb, result.labels, segmenter.info.palette, 0.65))
    if result.superpixels is not None:
        outlined = rgb.copy()
        outlined[superpixel_boundaries(result.superpixels)] = (255, 230, 0)
        panels.append(outlined)
    return np.hstack([cv2.resize(p, TILE, interpolation=cv2.INTER_AREA) for p in panels]), np.unique(
        np.stack([r.labels for r in results])
    )


def legend(width: int, segmenter: Segmenter, ids: np.ndarray) -> np.ndarray:
    """Names beside their colours, for the classes that occur."""
    columns = 8
    lines = -(-len(ids) // columns)
    strip = np.full((28 * lines + 8, width, 3), 255, np.uint8)
    for place, index in enumerate(ids):
        x, y = place % columns * (width // columns) + 6, place // columns * 28 + 6
        colour = [int(v) for v in segmenter.info.palette[index]]
        cv2.rectangle(strip, (x, y), (x + 20, y + 20), colour, -1)
        cv2.putText(
            strip,
            segmenter.info.class_names[index],
            (x + 26, y + 16),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.45,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )
    return strip


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="with the same classes")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="image files, or folders of them")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    files = [p for path in args.images for p in (sorted(path.iterdir()) if path.is_dir() else [path])]
    photos = [cv2.imread(str(p)) for p in files if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
    if not photos:
        parser.error(f"no .jpg or .png in {', '.join(map(str, args.images))}")
    with ExitStack() as opened:
        segmenters = [opened.enter_context(Segmenter(model)) for model in args.models]
        if len({tuple(segmenter.info.class_names) for segmenter in segmenters}) > 1:
            parser.error("the models have different classes; expected the same, for one legend")
        rows, ids = zip(*(row(cv2.cvtColor(p, cv2.COLOR_BGR2RGB), segmenters) for p in photos), strict=True)
        sheet = np.vstack([*rows, legend(rows[0].shape[1], segmenters[0], np.unique(np.concatenate(ids)))])
    cv2.imwrite(str(args.out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
