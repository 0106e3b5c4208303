"""The report as one HTML file without links out: figures, plots, and the images that went worst."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seg_models.data.labels import LabelTable
from seg_models.evaluation.charts import bars, curve, reliability
from seg_models.evaluation.panels import coloured, errors, jpeg_link, outlined

PANEL_WIDTH = 420  # pixels
CONFUSED = 12  # pairs of classes


@dataclass(frozen=True)
class ShownImage:
    """An image of the page.

    Attributes:
        name: of its file.
        miou: of it alone.
        image: uint8 RGB (H, W, 3).
        truth, predicted: uint8 (H, W).
        superpixels: (H, W), or None.
    """

    name: str
    miou: float
    image: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    superpixels: np.ndarray | None


def page(found: Mapping[str, Any], table: LabelTable, worst: Sequence[ShownImage]) -> str:
    """The page as text.

    Args:
        found: what `report.figures` returns; only what is in it is shown.
        table: names and colours of the classes.
        worst: images to show, the worst first.
    """
    sections: dict[str, Callable[[Any], str]] = {
        "boundary_f": _boundaries,
        "trimap": _trimap,
        "object_sizes": _object_sizes,
        "calibration": _calibration,
        "superpixels": _superpixels,
        "robustness": _robustness,
        "cost": _cost,
    }
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    parts = [_head(found), _tiles(found), _classes(found, table), _confused(found, table)]
    parts += [section(found[key]) for key, section in sections.items() if key in found]
    parts += [_worst(worst, table), _facts(found)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(str(found['model']))}: evaluation</title>\n<style>\n{style}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def _number(value: float | None, digits: int = 3) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are HTML."""
    text = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{text}</tr>{body}</table>"


def _section(title: str, note: str, content: str) -> str:
    return f'<section><h2>{escape(title)}</h2><p class="soft">{escape(note)}</p>{content}</section>'


def _head(found: Mapping[str, Any]) -> str:
    about = f"{found['images']} images of {found['data']}, split {found['split']}"
    return f'<header><h1>{escape(str(found["model"]))}</h1><p class="soft">{escape(about)}</p></header>'


def _tiles(found: Mapping[str, Any]) -> str:
    tiles = {"mIoU": _number(found["miou"]), "pixel accuracy": _number(found["pixel_accuracy"])}
    tiles |= {f"mIoU, {name}": _number(value) for name, value in found["groups"].items()}
    if "boundary_f" in found:
        tiles["boundary F"] = _number(found["boundary_f"]["mean"])
    if "calibration" in found:
        tiles["calibration error"] = _number(found["calibration"]["ece"])
    cells = "".join(
        f'<div class="tile"><span class="soft">{escape(k)}</span><b>{escape(v)}</b></div>' for k, v in tiles.items()
    )
    return f'<div class="tiles">{cells}</div>'


def _classes(found: Mapping[str, Any], table: LabelTable) -> str:
    edges = found.get("boundary_f", {}).get("classes", {})
    head = ["class", "", "IoU", "accuracy", *(["boundary F"] if edges else [])]
    rows = []
    for (name, iou), colour in zip(found["iou"].items(), table.palette, strict=True):
        bar = "" if iou is None else f'<div class="fill" style="width:{100 * iou:.1f}%"></div>'
        swatch = f'<i class="swatch" style="background:rgb({colour[0]},{colour[1]},{colour[2]})"></i>'
        cells = ["not in the labels" if iou is None else _number(iou), _number(found["class_accuracy"][name])]
        rows.append([swatch + escape(name), bar, *cells, *([_number(edges.get(name))] if edges else [])])
    html = _rows(head, rows).replace("<td><div", '<td class="wide"><div')
    return _section("Classes", "Intersection over union of all labelled pixels together; accuracy is recall.", html)


def _confused(found: Mapping[str, Any], table: LabelTable) -> str:
    counts = np.array(found["confusion"])[:, :-1]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, 0.0)
    order = np.argsort(share, axis=None)[::-1][:CONFUSED]
    pairs = [(int(i // len(share)), int(i % len(share))) for i in order]
    rows = [
        [escape(table.names[i]), escape(table.names[j]), f"{100 * share[i, j]:.1f} %", f"{counts[i, j]:,}"]
        for i, j in pairs
        if share[i, j] > 0
    ]
    html = _rows(["true class", "taken for", "of its pixels", "pixels"], rows)
    return _section("What is taken for what", "The largest shares.", html) if rows else ""


def _boundaries(one: Mapping[str, Any]) -> str:
    note = f"F-score of edge pixels within {100 * one['tolerance_of_diagonal']:g} % of the image's diagonal (Csurka et al.)."
    return _section("Boundaries", note, f"<p>Mean over images and their classes: {_number(one['mean'])}</p>")


def _trimap(one: Mapping[str, Any]) -> str:
    note = "mIoU of the pixels that lie at most so far from another class."
    return _section("Near edges", note, curve(one, "distance in pixels", "mIoU"))


def _object_sizes(one: Mapping[str, Any]) -> str:
    note = "Thirds of the classes, in the order of their objects' mean area (Segmenter, Table 4)."
    rows = [[size, _number(group["miou"]), escape(", ".join(group["classes"]))] for size, group in one.items()]
    return _section("Size of objects", note, _rows(["objects", "mIoU", "classes"], rows))


def _calibration(one: Mapping[str, Any]) -> str:
    note = (
        f"Expected calibration error {_number(one['ece'], 4)}, largest of a bin {_number(one['mce'], 4)}; mean confidence "
        f"{_number(one['mean_confidence'])}, accuracy {_number(one['accuracy'])}. On the dashed line confidence is what it says; "
        "pale bars are shares of pixels."
    )
    return _section("Calibration", note, reliability(one["bins"]))


def _superpixels(one: Mapping[str, Any]) -> str:
    names = list(next(iter(one.values())))
    rows = [
        [name.replace("_", " "), *(_number(values[name], 1 if name == "superpixels" else 3) for values in one.values())]
        for name in names
    ]
    note = "The model's, as many of SLIC's, and the plain cells of their grid; means over images."
    return _section("Superpixels", note, _rows(["", *one], rows))


def _robustness(one: Mapping[str, Any]) -> str:
    parts = []
    for title, found in one.items():
        groups = {name: {"mIoU": value} for name, value in {"clean": found["clean"], **found["groups"]}.items()}
        rows = [[name.replace("_", " "), _number(value)] for name, value in found["corruptions"].items()]
        retained = (
            f"<p>{escape(title)}: corrupted {_number(found['corrupted'])}, retention {_number(found['retention'])}</p>"
        )
        parts.append(f"<div>{retained}{bars(groups, 'mIoU')}{_rows(['corruption', 'mIoU'], rows)}</div>")
    note = "mIoU of corrupted images, the mean over severities."
    return _section("Corruptions", note, f'<div class="columns">{"".join(parts)}</div>')


def _cost(one: Mapping[str, Any]) -> str:
    macs = one["multiply_accumulates"]
    facts = {
        "parameters": f"{one['parameters'] / 1e6:.2f} M",
        "multiply-accumulates": "not counted in a file" if macs is None else f"{macs / 1e9:.2f} G",
        **{
            title: f"{one[key]['median']:.1f} ms ({one[key]['lowest']:.1f} to {one[key]['highest']:.1f})"
            for title, key in (("network", "network_ms"), ("image, resized and painted", "image_ms"))
        },
        "peak memory": f"{one['peak_memory_mb']:.0f} MB",
        "device": f"{one['device']}, {one['threads']} threads",
    }
    return _section(
        "Cost", "Medians of this machine, one image at a time.", _rows(["", ""], [[k, v] for k, v in facts.items()])
    )


def _worst(worst: Sequence[ShownImage], table: LabelTable) -> str:
    strips = []
    for one in worst:
        truth, predicted = coloured(one.truth, table.palette), coloured(one.predicted, table.palette)
        image = cv2.cvtColor(one.image, cv2.COLOR_RGB2BGR)
        size = (one.truth.shape[1], one.truth.shape[0])
        panels = {"image": image, "truth": truth, "prediction": predicted}
        panels["wrong in red"] = errors(one.predicted, one.truth)
        if one.superpixels is not None:
            panels["superpixels"] = outlined(cv2.resize(one.image, size), one.superpixels)
        figures = "".join(
            f'<figure><img alt="{title}" loading="lazy" src="{jpeg_link(picture, PANEL_WIDTH)}">'
            f"<figcaption>{title}</figcaption></figure>"
            for title, picture in panels.items()
        )
        strips.append(f'<div>{escape(one.name)} · mIoU {one.miou:.3f}</div><div class="strip">{figures}</div>')
    note = "Those of the lowest mIoU over the classes in their labels; black has no label."
    return _section("Worst images", note, "".join(strips)) if strips else ""


def _facts(found: Mapping[str, Any]) -> str:
    facts = {key: found[key] for key in ("model", "data", "split")} | dict(found["protocol"])
    rows = [[escape(key.replace("_", " ")), escape(str(value))] for key, value in facts.items()]
    return _section("How it was scored", "", _rows(["", ""], rows))
