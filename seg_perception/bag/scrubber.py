"""The report's player: the video of the run with a slider, and beside it what the frame on show takes for what."""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path

import numpy as np

from seg_perception.bag.charts import confusion_chart
from seg_perception.bag.result import EvaluationResult

# A page of more would take a browser seconds to read; of a longer run, so many frames in a row are counted together.
MAX_STEPS = 3000


def scrubber_section(result: EvaluationResult) -> str:
    """HTML of the player: video, slider, and the confusion of the frame on show. The script fills in the frames' figures."""
    video = escape(result.files["video"], quote=True)
    data = json.dumps(_frames(result), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    chart = ""
    if result.confusion is not None:
        names = [*result.model.class_names, "no label"]
        rows, columns = shown_classes(result.confusion)
        zero = np.zeros((len(rows), len(columns)))
        chart = (
            '<p class="soft small">Of the pixels of each true class (rows) in this frame, the percentage predicted as each '
            "class (columns).</p>"
            + confusion_chart([names[row] for row in rows], [names[c] for c in columns], zero, zero, live=True)
        )
    return (
        '<section id="player"><h2>The run, frame by frame</h2>'
        f'<video src="{video}" muted playsinline controls preload="auto"></video>'
        '<div class="controls"><button type="button" id="back" title="one frame back (left arrow)">&#9664;</button>'
        f'<input type="range" id="frame" min="0" max="{result.frames_out - 1}" value="0" aria-label="frame">'
        '<button type="button" id="on" title="one frame on (right arrow)">&#9654;</button></div>'
        f'<p class="facts small" id="facts" aria-live="polite"></p>{chart}'
        f'<p class="soft small">The video is the file <a href="{video}">{video}</a> beside this page.</p>'
        f'<script type="application/json" id="frames">{data}</script></section>'
    )


def scrubber_script() -> str:
    """The player's JavaScript."""
    return (Path(__file__).parent / "scrubber.js").read_text(encoding="utf-8")


def shown_classes(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (true classes that occur) and columns (those, and what was predicted) of int64 [K, K + 1] worth showing."""
    labelled = confusion.sum(axis=1)  # (K,)
    return np.flatnonzero(labelled), np.flatnonzero((confusion.sum(axis=0) > 0) | np.append(labelled > 0, False))


def _frames(result: EvaluationResult) -> dict[str, object]:
    """What the script needs: times, scores and latencies a frame, and the confusion of every `span` frames, sparse."""
    confusion = result.confusion
    if confusion is None:
        rows = columns = np.zeros(0, np.int64)
    else:
        rows, columns = shown_classes(confusion)
        row_of = np.full(confusion.shape[0], -1)
        row_of[rows] = np.arange(len(rows))
        column_of = np.full(confusion.shape[1], -1)
        column_of[columns] = np.arange(len(columns))
    span = -(-result.frames_out // MAX_STEPS)
    steps: list[list[list[int]]] = []
    if confusion is not None:
        for start in range(0, result.frames_out, span):
            total = np.zeros(confusion.size, np.int64)
            for frame in result.frame_confusion[start : start + span]:
                if frame is not None:
                    total[frame.cells] += frame.pixels
            cells = np.flatnonzero(total)
            true, predicted = np.divmod(cells, confusion.shape[1])
            steps.append(np.stack([row_of[true], column_of[predicted], total[cells]], axis=1).tolist())
    return {
        "rate": result.video_frames_per_second,
        "rows": len(rows),
        "columns": len(columns),
        "span": span,
        "seconds": [round(1e-9 * int(stamp - result.stamps_ns[0]), 3) for stamp in result.stamps_ns],
        "miou": [None if math.isnan(value) else round(float(value), 3) for value in result.frame_miou],
        "latency_ms": [round(float(value), 1) for value in result.latencies_ms],
        "confusion": steps,
    }
