"""How a model does on real photos, to look at: photo | labels | superpixels, a row each, with a legend.

    python -m benchmarks.real_photos --model models/rooms_spt_lite0.onnx --images FOLDER --out models/real_photos.jpg

Real photos have no exact labels here, so this gives no figure; what it shows goes into the model card.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from seg_perception.labels import overlay, superpixel_boundaries
from seg_perception.segmenter import Segmenter

TILE = (320, 240)


def row(rgb: np.ndarray, segmenter: Segmenter) -> tuple[np.ndarray, np.ndarray]:
    """One photo's three panels side by side and the class ids in it."""
    result = segmenter.segment(rgb)
    panels = [rgb, overlay(rgb, result.labels, segmenter.info.palette, 0.65)]
    if result.superpixels is not None:
        outlined = rgb.copy()
        outlined[superpixel_boundaries(result.superpixels)] = (255, 230, 0)
        panels.append(outlined)
    return np.hstack([cv2.resize(p, TILE, interpolation=cv2.INTER_AREA) for p in panels]), np.unique(result.labels)


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
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="image files, or folders of them")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    files = [p for path in args.images for p in (sorted(path.iterdir()) if path.is_dir() else [path])]
    photos = [cv2.imread(str(p)) for p in files if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
    if not photos:
        parser.error(f"no .jpg or .png in {', '.join(map(str, args.images))}")
    with Segmenter(args.model) as segmenter:
        rows, ids = zip(*(row(cv2.cvtColor(p, cv2.COLOR_BGR2RGB), segmenter) for p in photos), strict=True)
        sheet = np.vstack([*rows, legend(rows[0].shape[1], segmenter, np.unique(np.concatenate(ids)))])
    cv2.imwrite(str(args.out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
