"""What the parameter `smoothing` brings in flicker and costs in lag, on the demo recording.

    .venv-test/bin/python -m benchmarks.smoothing

Flicker: images of the recording are held, each frame with noise of its own; the share of pixels whose class changes from one
frame to the next. Lag: mIoU on the recording as it moves, and on held images that a slow pan moves by parts of a pixel a frame,
with the same noise. `always` is the mean that never begins anew: what the look at motion is there for. One inference a frame
serves all columns.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

from seg_perception.bag.frames import FrameSource
from seg_perception.bag.metrics import ConfusionMatrix
from seg_perception.bag.reader import BagError, open_bag
from seg_perception.engines.base import EngineError
from seg_perception.model.errors import ModelFileError
from seg_perception.painting import Painter
from seg_perception.segmenter import Segmenter
from seg_perception.share import share_path
from seg_perception.smoothing import MOTION, TemporalSmoother

BAG, MODEL = share_path("bags/rooms_demo.mcap"), share_path("models/rooms_spt_lite0.onnx")
IMAGES, LABELS = "/camera/image_raw/compressed", "/camera/labels"
WEIGHTS = (0.0, 0.5, 0.8, 0.9)
NOISE = (2.0, 4.0, 8.0)  # standard deviations, grey levels
PAN = (0.25, 0.5, 1.0, 2.0)  # pixels of the camera a frame
PAN_NOISE = 4.0
HELD = 6  # images, spread over the recording
LENGTH = 16  # frames of one that is held
SETTLED = 6  # of them, before which nothing is counted
PERIOD_S = 0.1

# RGB uint8 [H, W, 3], true classes uint8 [H, W]
Frame = tuple[np.ndarray, np.ndarray]


class Contestants:
    """A smoother for each weight, and for each but 0 one that does not look at motion."""

    def __init__(self, segmenter: Segmenter) -> None:
        geometry = segmenter.info.geometry
        if geometry is None:
            raise ModelFileError(
                f"model {segmenter.info.name} is of form labels, expected association: there are no scores to take a mean of"
            )
        self.num_classes = segmenter.info.num_classes
        self._segmenter = segmenter
        self._painter = Painter(geometry, 2)
        self.columns = [(weight, MOTION) for weight in WEIGHTS] + [(weight, np.inf) for weight in WEIGHTS if weight]
        self._smoothers: list[TemporalSmoother] = []
        self._stamp_s = 0.0
        self.smoothing_ms: list[float] = []
        self.begin()

    def begin(self) -> None:
        """Forget what was."""
        self._smoothers = [TemporalSmoother(motion) for _, motion in self.columns]

    def labels(self, image: np.ndarray) -> list[np.ndarray]:
        """uint8 [H, W] for each column."""
        seen: list[tuple[dict[str, np.ndarray], np.ndarray]] = []

        def note(outputs: dict[str, np.ndarray], network: np.ndarray) -> dict[str, np.ndarray]:
            seen.append(({name: array.copy() for name, array in outputs.items()}, network))
            return outputs

        self._segmenter.segment(image, False, False, smooth=note)
        (outputs, network), self._stamp_s = seen[0], self._stamp_s + PERIOD_S
        masks = []
        for (weight, _), smoother in zip(self.columns, self._smoothers, strict=True):
            begin_s = perf_counter()
            smooth = smoother.smooth(outputs, network, self._stamp_s, weight, self._painter.geometry.cell)
            self.smoothing_ms.append(1e3 * (perf_counter() - begin_s))
            size = (image.shape[0], image.shape[1])
            painted = self._painter.paint(smooth["association"], smooth["class_logits"], size, True, False, False)
            assert painted.labels is not None
            masks.append(painted.labels)
        return masks


def noisy(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """uint8, with noise of its own in every pixel and channel."""
    return np.clip(np.rint(image + rng.normal(0, sigma, image.shape)), 0, 255).astype(np.uint8)


def panned(frame: Frame, pixels: float) -> Frame:
    """The frame moved to the left; what comes in is without a label."""
    image, labels = frame
    move, size = np.float32([[1, 0, -pixels], [0, 1, 0]]), (labels.shape[1], labels.shape[0])
    return (
        cv2.warpAffine(image, move, size, borderMode=cv2.BORDER_REPLICATE),
        cv2.warpAffine(labels, move, size, flags=cv2.INTER_NEAREST, borderValue=255),
    )


def flicker(contestants: Contestants, held: list[Frame], sigma: float) -> list[float]:
    """Share of pixels that change class from one frame to the next, for each column."""
    rng = np.random.default_rng(0)
    changed = np.zeros(len(contestants.columns))
    for image, _ in held:
        contestants.begin()
        before: list[np.ndarray] = []
        for number in range(LENGTH):
            masks = contestants.labels(noisy(image, sigma, rng))
            if number > SETTLED:
                changed += [(now != then).mean() for now, then in zip(masks, before, strict=True)]
            before = masks
    return list(changed / (len(held) * (LENGTH - SETTLED - 1)))


def pans(held: list[Frame], pixels: float) -> Iterator[list[Frame]]:
    """Each held image, moving."""
    rng = np.random.default_rng(1)
    for frame in held:
        moved = [panned(frame, pixels * number) for number in range(LENGTH)]
        yield [(noisy(image, PAN_NOISE, rng), labels) for image, labels in moved]


def accuracy(contestants: Contestants, sequences: Iterable[list[Frame]], settled: int = 0) -> list[float]:
    """mIoU for each column, without the first frames of each sequence."""
    classes = contestants.num_classes
    matrices = [ConfusionMatrix(classes) for _ in contestants.columns]
    for sequence in sequences:
        contestants.begin()
        for number, (image, labels) in enumerate(sequence):
            for mask, matrix in zip(contestants.labels(image), matrices, strict=True):
                if number >= settled:
                    matrix.add(labels, mask)
    return [matrix.scores().miou for matrix in matrices]


def table(contestants: Contestants, frames: list[Frame]) -> str:
    """All rows as markdown."""
    names = [f"{weight:g}" if motion == MOTION else f"{weight:g} always" for weight, motion in contestants.columns]
    lines = [f"| smoothing | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    held = frames[:: -(-len(frames) // HELD)]
    for sigma in NOISE:
        shares = " | ".join(f"{100 * share:.2f}" for share in flicker(contestants, held, sigma))
        lines.append(f"| flicker, noise {sigma:g}: % of pixels a frame | {shares} |")
    rows = [("recording as it moves", accuracy(contestants, [frames]))]
    rows += [(f"pan, {pixels:g} pixels a frame", accuracy(contestants, pans(held, pixels), SETTLED)) for pixels in (0.0, *PAN)]
    for name, scores in rows:
        lines.append(f"| mIoU %, {name} | {' | '.join(f'{100 * score:.2f}' for score in scores)} |")
    low, middle, high = np.percentile(contestants.smoothing_ms, (5, 50, 95))
    return "\n".join(lines) + f"\n\nSmoothing takes {middle:.2f} ms a frame ({low:.2f}-{high:.2f}, 90 % of the frames).\n"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smoothing", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bag", type=Path, default=BAG, help="recording with labels (default: the demo's)")
    parser.add_argument("--image-topic", default=IMAGES)
    parser.add_argument("--label-topic", default=LABELS)
    parser.add_argument("--model", type=Path, default=MODEL, help="of the form association (default: the shipped one)")
    args = parser.parse_args(arguments)
    try:
        with open_bag(args.bag) as bag, Segmenter(args.model, threads=2) as segmenter:
            source = FrameSource(bag, args.image_topic, args.label_topic)
            frames = [(frame.rgb, frame.labels) for frame in source if frame.labels is not None]
            print(table(Contestants(segmenter), frames))
    except (BagError, ModelFileError, EngineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
