"""The page report.html: figures, pictures, charts and facts of one evaluation, all within one file."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from seg_perception.bag.charts import confusion_chart, histogram, line_chart
from seg_perception.bag.metrics import percentiles
from seg_perception.bag.panels import error_panel, superpixel_panel
from seg_perception.bag.result import EvaluationResult, FramePicture
from seg_perception.bag.scrubber import scrubber_script, scrubber_section, shown_classes
from seg_perception.labels import colours, overlay

OVERLAY_ALPHA = 0.62
JPEG_QUALITY = 84
SHOWN_SAMPLES = 3  # the others open at a click

_ENLARGE = """
const dialog = document.querySelector("dialog"), large = dialog.querySelector("img");
for (const picture of document.querySelectorAll(".strip img"))
  picture.onclick = () => { large.src = picture.src; dialog.showModal(); };
dialog.onclick = () => dialog.close();
"""


def report_page(result: EvaluationResult) -> str:
    """The whole page as HTML text."""
    style = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    sections = [_header(result), _tiles(result)]
    script = _ENLARGE
    if result.frames_out and "video" in result.files:
        sections.append(scrubber_section(result))
        script += scrubber_script()
    if result.frames_out:
        sections += [_samples(result), _scores(result), _worst(result), _latency(result)]
    sections.append(_facts(result))
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(result.model.name)}: segmentation report</title>\n<style>\n{style}</style></head>\n"
        f'<body><main>\n{body}\n</main><dialog><img alt="enlarged picture"></dialog>'
        f"<script>{script}</script></body></html>\n"
    )


def _header(result: EvaluationResult) -> str:
    about = [Path(result.source["bag"]).name] if "bag" in result.source else []
    about += [result.environment[key] for key in ("date",) if key in result.environment]
    warnings = "".join(f'<div class="warning">{escape(warning)}</div>' for warning in result.warnings)
    return (
        f"<header><h1>{escape(result.model.name)}</h1>"
        f'<p class="soft">{escape(" · ".join(["Semantic segmentation report", *about]))}</p>{warnings}</header>'
    )


def _tiles(result: EvaluationResult) -> str:
    latency = percentiles(result.latencies_ms)
    tiles = []
    if result.miou is not None and result.pixel_accuracy is not None:
        present = sum(value is not None for value in result.iou.values())
        tiles.append(("mean IoU", f"{result.miou:.3f}", f"over the {present} classes in the labels"))
        tiles.append(("pixel accuracy", f"{100 * result.pixel_accuracy:.1f} <small>%</small>", "of labelled pixels"))
    else:
        tiles.append(("mean IoU", "none", "the frames have no labels"))
    if latency["p50"] is not None:
        tiles.append(
            (
                "latency, median",
                f"{latency['p50']:.1f} <small>ms</small>",
                f"p95 {latency['p95']:.1f} ms, p99 {latency['p99']:.1f} ms",
            )
        )
    if result.frames_per_second is not None:
        tiles.append(("throughput", f"{result.frames_per_second:.1f} <small>frames/s</small>", "over the whole run"))
    dropped = f"{result.frames_dropped} of {result.frames_in} images without a mask"
    tiles.append(("frames", f"{result.frames_out:,}", dropped))
    tiles.append(("engine", f"<span class='word'>{escape(result.engine)}</span>", escape(result.engine_description)))
    cells = "".join(
        f'<div class="tile"><span class="soft small">{title}</span><b>{value}</b>'
        f'<span class="soft small">{note}</span></div>'
        for title, value, note in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _samples(result: EvaluationResult) -> str:
    strips = [_strip(result, frame, _sample_panels(result, frame)) for frame in result.samples]
    step = max(1, len(strips) // SHOWN_SAMPLES)
    shown = strips[::step][:SHOWN_SAMPLES]
    others = [strip for strip in strips if strip not in shown]
    more = f"<details><summary>{len(others)} more frames</summary>{''.join(others)}</details>" if others else ""
    return (
        "<section><h2>Frames through the recording</h2>"
        '<p class="soft small">Spread evenly over the run. Class colours lie over the camera image; black is not '
        f"labelled. Click a picture to enlarge it.</p>{_legend(result)}{''.join(shown)}{more}</section>"
    )


def _worst(result: EvaluationResult) -> str:
    if not result.worst:
        return ""
    by_score = result.confusion is not None
    why = "lowest mean IoU of a frame" if by_score else "lowest mean confidence, since there are no labels"
    strips = "".join(_strip(result, frame, _worst_panels(result, frame)) for frame in result.worst)
    return (
        f"<section><h2>Worst frames</h2><p class='soft small'>The {why}, from different parts of the run.</p>"
        f"{strips}</section>"
    )


def _sample_panels(result: EvaluationResult, frame: FramePicture) -> list[tuple[str, np.ndarray]]:
    palette = result.model.palette
    panels = [("camera", frame.rgb)]
    if frame.labels is not None:
        panels.append(("ground truth", overlay(frame.rgb, frame.labels, palette, OVERLAY_ALPHA)))
    panels.append(("prediction", overlay(frame.rgb, frame.predicted, palette, OVERLAY_ALPHA)))
    if frame.superpixels is not None:
        tint = colours(frame.predicted, palette)
        panels.append(("superpixels", superpixel_panel(frame.rgb, frame.superpixels, tint)))
    return panels


def _worst_panels(result: EvaluationResult, frame: FramePicture) -> list[tuple[str, np.ndarray]]:
    panels = [panel for panel in _sample_panels(result, frame) if panel[0] != "superpixels" or frame.labels is None]
    if frame.labels is not None:
        panels.append(("wrong pixels in red", error_panel(frame.rgb, frame.predicted, frame.labels)))
    return panels


def _strip(result: EvaluationResult, frame: FramePicture, panels: Sequence[tuple[str, np.ndarray]]) -> str:
    since_start_s = 1e-9 * (frame.stamp_ns - int(result.stamps_ns[0]))
    facts = [f"frame {frame.index + 1}", f"{since_start_s:.2f} s"]
    if not math.isnan(frame.miou):
        facts.append(f"mIoU {frame.miou:.3f}")
    if not math.isnan(frame.mean_confidence):
        facts.append(f"mean confidence {frame.mean_confidence:.2f}")
    facts.append(f"{frame.latency_ms:.1f} ms")
    figures = "".join(
        f'<figure><img alt="{escape(title)}" loading="lazy" src="{_jpeg(picture)}"><figcaption>{escape(title)}'
        "</figcaption></figure>"
        for title, picture in panels
    )
    return (
        f'<div class="strip-title">{" · ".join(facts)}</div>'
        f'<div class="strip" style="--panels:{max(len(panels), 2)}">{figures}</div>'
    )


def _legend(result: EvaluationResult) -> str:
    items = "".join(
        f"<span>{_swatch(colour)}{escape(name)}</span>"
        for name, colour in zip(result.model.class_names, result.model.palette.tolist(), strict=True)
    )
    return f'<div class="legend">{items}</div>'


def _scores(result: EvaluationResult) -> str:
    if result.confusion is None:
        return ""
    return (
        '<section><div class="columns"><div><h2>IoU by class</h2>'
        '<p class="soft small">Intersection over union of all labelled pixels together. Share: of the labelled '
        f"pixels.</p>{_iou_bars(result, result.confusion)}{_over_time(result)}</div>"
        "<div><h2>What is taken for what</h2>"
        '<p class="soft small">Of the pixels of each true class (rows), the percentage predicted as each class '
        f"(columns).</p>{_confusion(result, result.confusion)}</div></div></section>"
    )


def _iou_bars(result: EvaluationResult, confusion: np.ndarray) -> str:
    labelled = confusion.sum(axis=1)  # (K,)
    rows = ['<span class="head">class</span><span></span><span class="head">IoU</span><span class="head">share</span>']
    entries = list(zip(result.iou.items(), result.model.palette.tolist(), labelled, strict=True))
    entries.sort(key=lambda entry: -1.0 if entry[0][1] is None else entry[0][1], reverse=True)
    absent = []
    for (name, value), colour, count in entries:
        if value is None:
            absent.append(name)
            continue
        rows.append(
            f"<span>{_swatch(colour)}{escape(name)}</span><div class='track'><div class='fill' "
            f"style='width:{100 * value:.2f}%;background:{_css(colour)}'></div></div>"
            f"<span class='number'>{value:.3f}</span>"
            f"<span class='number soft'>{100 * count / max(labelled.sum(), 1):.1f} %</span>"
        )
    note = f'<p class="soft small">Not in the labels: {escape(", ".join(absent))}</p>' if absent else ""
    return f"<div class='ious'>{''.join(rows)}</div><p></p>{note}"


def _over_time(result: EvaluationResult) -> str:
    if np.isfinite(result.frame_miou).sum() < 2:
        return ""
    chart = line_chart(_seconds(result), result.frame_miou, x_title="time, s", y_title="mIoU of each frame", y_max=1.0)
    return f"<h2>Score over time</h2>{chart}"


def _confusion(result: EvaluationResult, confusion: np.ndarray) -> str:
    names = [*result.model.class_names, "no label"]
    rows, columns = shown_classes(confusion)
    counts = confusion[np.ix_(rows, columns)]
    fractions = counts / confusion.sum(axis=1)[rows][:, None]
    return confusion_chart([names[row] for row in rows], [names[column] for column in columns], fractions, counts)


def _latency(result: EvaluationResult) -> str:
    levels = {name: value for name, value in percentiles(result.latencies_ms).items() if value is not None}
    named = {f"{name} {value:.1f} ms": value for name, value in levels.items()}
    over_time = line_chart(
        _seconds(result), result.latencies_ms, x_title="time, s", y_title="latency, ms", levels=named
    )
    spread = histogram(result.latencies_ms, x_title="latency, ms", levels=named)
    return (
        f'<section><h2>Latency</h2><p class="soft small">Measured {escape(result.latency_meaning)}.</p>'
        f'{_stages(result)}<div class="columns"><div>{over_time}</div><div>{spread}</div></div></section>'
    )


def _stages(result: EvaluationResult) -> str:
    medians = {name: float(np.median(values)) for name, values in result.stages_ms.items() if len(values)}
    total = sum(medians.values())
    if total <= 0:
        return ""
    blocks = "".join(
        f"<div class='stage-{number % 5}' style='flex:{value / total:.5f}' title='{escape(name)}: {value:.2f} ms'></div>"
        for number, (name, value) in enumerate(medians.items())
    )
    legend = "".join(
        f"<span><i class='swatch stage-{number % 5}'></i>{escape(name)} {value:.2f} ms "
        f"<span class='soft'>({100 * value / total:.1f} %)</span></span>"
        for number, (name, value) in enumerate(medians.items())
    )
    return f"<div class='stages'>{blocks}</div><div class='legend'>{legend}<span class='soft'>medians</span></div>"


def _facts(result: EvaluationResult) -> str:
    model = result.model
    rows, columns = model.superpixel_grid or (0, 0)
    facts = {
        "model": model.name,
        "architecture": model.architecture,
        "input": f"{model.input_size[1]}x{model.input_size[0]} pixels",
        "superpixels": f"{rows * columns} ({rows} rows, {columns} columns)" if rows else "none",
        "classes": ", ".join(model.class_names),
        "training data": model.training_data,
        "licence": model.license,
        "source commit": model.source_commit,
        "file": f"{model.path.name}, {model.file_size_bytes / 1e6:.1f} MB, ONNX opset {model.opset}",
    }
    sizes = ", ".join(f"{width}x{height} ({count})" for (width, height), count in result.image_sizes.items())
    run = {
        **result.source,
        "images": sizes,
        "labelled frames": str(result.labelled_frames),
        "engine": result.engine_description,
        **{f"dropped: {reason}": str(count) for reason, count in result.drop_reasons.items()},
        **result.environment,
    }
    return (
        f'<section><div class="columns"><div><h2>Model</h2>{_table(facts)}</div>'
        f"<div><h2>Run</h2>{_table(run)}</div></div></section>"
    )


def _table(facts: dict[str, str]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items() if value
    )
    return f"<table>{rows}</table>"


def _seconds(result: EvaluationResult) -> np.ndarray:
    """Stamps in seconds since the first frame: float64 [N]."""
    return 1e-9 * (result.stamps_ns - result.stamps_ns[0]).astype(np.float64)


def _swatch(colour: Sequence[int]) -> str:
    return f'<i class="swatch" style="background:{_css(colour)}"></i>'


def _css(colour: Sequence[int]) -> str:
    return f"rgb({colour[0]} {colour[1]} {colour[2]})"


def _jpeg(picture: np.ndarray) -> str:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
