"""What a frame takes on a weak link, and how near the far side comes to the node's own labels, on the demo recording.

    .venv-test/bin/python -m benchmarks.weak_link

Labels and superpixels as the node publishes them at three sizes, packed as PNG (what image_transport's `compressed` sends of
them); `~/superpixel_labels` as they are. The far side paints the classes over the superpixels (`paint_superpixels`), or, without
those, in squares over the grid's cells.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from seg_perception.bag.frames import FrameSource
from seg_perception.bag.reader import BagError, open_bag
from seg_perception.engines.base import EngineError
from seg_perception.model.errors import ModelFileError
from seg_perception.segmenter import Segmenter
from seg_perception.share import share_path
from seg_perception.superpixel_labels import paint_superpixels, superpixel_labels

BAG, MODEL = share_path("bags/rooms_demo.mcap"), share_path("models/rooms_spt_lite0.onnx")
IMAGES = "/camera/image_raw/compressed"
SIZES = ((480, 640), (384, 512), (120, 160))  # the camera's, the network's, and one for links: (H, W)


def packed(pixels: np.ndarray) -> int:
    """Bytes of the PNG."""
    return len(cv2.imencode(".png", pixels)[1])


def measure(segmenter: Segmenter, images: list[np.ndarray], size: tuple[int, int]) -> tuple[float, ...]:
    """Means over images: bytes of labels, superpixels, superpixel_labels; shares of pixels that agree, painted and in squares."""
    rows = []
    for image in images:
        result = segmenter.segment(image, want_confidence=False, size=size)
        assert result.superpixels is not None
        assert result.class_logits is not None
        tiny, _ = superpixel_labels(result.class_logits)
        painted = paint_superpixels(result.superpixels, tiny)
        squares = cv2.resize(tiny, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        agree = [float((mask == result.labels).mean()) for mask in (painted, squares)]
        rows.append((packed(result.labels), packed(result.superpixels), tiny.size, *agree))
    return tuple(np.mean(rows, 0))


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--bag", type=Path, default=BAG)
    parser.add_argument("--every", type=int, default=5, help="of so many images one")
    arguments = parser.parse_args()
    try:
        with open_bag(arguments.bag) as bag, Segmenter(arguments.model) as segmenter:
            if segmenter.info.geometry is None:
                raise ModelFileError(f"model {segmenter.info.name} is of form labels, expected association")
            images = [frame.rgb.copy() for frame in FrameSource(bag, IMAGES)][:: arguments.every]
            print(f"{len(images)} images, {segmenter.info.name}, grid {segmenter.info.geometry.grid}")
            print("| size | labels, bytes | superpixels | superpixel_labels | painted: % agree | in squares: % agree |")
            print("|---|---|---|---|---|---|")
            for size in SIZES:
                labels, superpixels, tiny, painted, squares = measure(segmenter, images, size)
                print(
                    f"| {size[1]}x{size[0]} | {labels:,.0f} | {superpixels:,.0f} | {tiny:,.0f} | {100 * painted:.1f} | "
                    f"{100 * squares:.1f} |"
                )
    except (BagError, ModelFileError, EngineError) as error:
        print(f"weak_link: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
