"""The animation at the top of the README: the shipped model on the shipped recording, camera | labels | superpixels.

    python -m benchmarks.readme_picture --out docs/segmentation.webp
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from seg_perception.bag.canvas import RunCanvas
from seg_perception.bag.frames import FrameSource
from seg_perception.bag.reader import open_bag
from seg_perception.segmenter import Segmenter
from seg_perception.share import share_path

PANEL_WIDTH = 300  # three make a page's width
EVERY = 2  # a frame of so many is shown, at the recording's pace
FRAMES = 80  # of the recording
QUALITY = 55  # of WebP, 1 to 100


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=share_path("models/rooms_spt_lite0.onnx"))
    parser.add_argument("--bag", type=Path, default=share_path("bags/rooms_demo.mcap"))
    parser.add_argument("--image-topic", default="/camera/image_raw/compressed")
    parser.add_argument("--out", type=Path, required=True, help="a .webp file")
    args = parser.parse_args()
    animation = cv2.Animation()
    pictures = []
    with open_bag(args.bag) as bag, Segmenter(args.model) as segmenter:
        frames = FrameSource(bag, args.image_topic, None, FRAMES)
        canvas = None
        for number, frame in enumerate(frames):
            if number % EVERY:
                continue
            if canvas is None:
                canvas = RunCanvas(segmenter.info, (frame.rgb.shape[0], frame.rgb.shape[1]), PANEL_WIDTH)
            picture = canvas.compose(frame.rgb, segmenter.segment(frame.rgb, want_confidence=False))
            pictures.append(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        animation.durations = [round(1000 * EVERY / frames.frames_per_second)] * len(pictures)
    animation.frames = pictures
    if not cv2.imwriteanimation(str(args.out), animation, [cv2.IMWRITE_WEBP_QUALITY, QUALITY]):
        parser.error(f"{args.out} cannot be written; expected a name that ends in .webp")
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB, {len(pictures)} frames)")


if __name__ == "__main__":
    main()
