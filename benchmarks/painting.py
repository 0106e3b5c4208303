"""Painting outside of the graph beside the standard operations that it replaces, in the same engine and the same run.

    pip install -c constraints.txt -e '.[train,openvino]'
    .venv-test/bin/python -m benchmarks.painting                                # table, written into benchmarks/README.md
    .venv-test/bin/python -m benchmarks.painting --model M.onnx --images DIR    # on a model's own maps

The standard operations are those of the form `labels`: resize inside the cells, softmax, product, two argmaxes at network size,
exported by themselves. At another size than the network's they are followed by the nearest-neighbour enlargement that
such a file gets; what is drawn then has steps. Without a model the maps are random: more candidates a cell than trained ones.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from torch import Tensor, nn

from benchmarks.peers import write_between
from seg_models.export.graph import OPSET, simplify
from seg_models.ops import neighbourhood as nb
from seg_models.segmentation_model import most_probable
from seg_perception.engines.select import create_engine
from seg_perception.image_memory import keep_freed_memory
from seg_perception.model.model_file import read_model_info
from seg_perception.painting import Painter
from seg_perception.painting_geometry import PaintingGeometry

README = Path(__file__).parent / "README.md"
ROBOT = PaintingGeometry((384, 512), (24, 32), (16, 16), (2, 2))
CAMERAS = ((384, 512), (480, 640), (1080, 1920))
CLASSES = (16, 150)
# The engines' threads go on spinning for a while after a run, and would count as the next contestant's time. After the pause
# each runs twice, and the second is counted: in the node the cores are awake when painting begins.
PAUSE_S = 0.01
Maps = list[tuple[np.ndarray, np.ndarray]]


class PaintingGraph(nn.Module):
    """What the form `labels` does behind the last scores."""

    def __init__(self, geometry: PaintingGeometry) -> None:
        super().__init__()
        self.geometry = geometry

    def forward(self, association: Tensor, class_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(1, R, C, P, 9), (1, R, C, K) -> uint8 labels, uint8 confidence, int32 superpixels (1, H, W)."""
        cell = self.geometry.cell
        full = nb.upsample_in_cells(association, self.geometry.feature_cell, cell)
        labels, confidence = most_probable(nb.association(full) @ nb.gather_neighbours(class_logits), dim=-1)
        owner = nb.hard_superpixels(full, cell)
        labels, confidence = (nb.from_cells(x.unsqueeze(-1), cell)[:, 0] for x in (labels, confidence))
        return labels.to(torch.uint8), (confidence * 255.0).round().to(torch.uint8), owner.to(torch.int32)


def in_graph(geometry: PaintingGeometry, classes: int, engine: str, folder: Path, threads: int) -> Callable[..., list]:
    """The standard operations, compiled by an engine: called with the two maps."""
    shapes = ((1, *geometry.grid, geometry.feature_cell[0] * geometry.feature_cell[1], 9), (1, *geometry.grid, classes))
    program = torch.onnx.export(
        PaintingGraph(geometry).eval(),
        tuple(torch.zeros(shape) for shape in shapes),
        input_names=["association", "class_logits"],
        output_names=["labels", "confidence", "superpixels"],
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
        optimize=False,
    )
    assert program is not None
    simplify(program.model)
    path = folder / f"painting_{classes}.onnx"
    onnx.save(program.model_proto, path)
    if engine == "ONNX Runtime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda a, c: session.run(None, {"association": a[None], "class_logits": c[None]})
    import openvino

    precision = openvino.Type.f32 if engine.endswith("f32") else openvino.Type.bf16
    config = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(path, "CPU", config).create_infer_request()
    return lambda a, c: list(request.infer([a[None], c[None]], share_inputs=True, share_outputs=True).values())


def random_maps(geometry: PaintingGeometry, classes: int, count: int = 6) -> Maps:
    """Maps in which neighbouring superpixels resemble each other, as they do in images, and pixels choose freely."""
    rng = np.random.default_rng(0)
    features = geometry.feature_cell[0] * geometry.feature_cell[1]
    outside = nb.outside_grid(geometry.grid).numpy()  # (R, C, 9)
    maps = []
    for _ in range(count):
        association = rng.normal(0, 3, (*geometry.grid, features, 9)).astype(np.float32)
        association = np.where(outside[:, :, None], np.float32(nb.BORDER), association)
        planes = rng.normal(0, 1, (classes, *geometry.grid)).astype(np.float32)
        logits = np.stack([5 * cv2.GaussianBlur(plane, (0, 0), 1.5) for plane in planes], axis=-1)
        maps.append((association, logits))
    return maps


def maps_of(model: Path, images: Path, count: int = 6) -> tuple[PaintingGeometry, int, Maps]:
    """A model's own maps of images of a folder."""
    info = read_model_info(model)
    if info.geometry is None:
        raise SystemExit(f"{model} is of the form {info.form}; expected association")
    files = sorted(p for p in images.rglob("*") if p.suffix in (".jpg", ".png"))
    maps = []
    with create_engine("auto", info) as engine:
        for path in files[:: max(1, len(files) // count)][:count]:
            rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            outputs = engine.infer(cv2.resize(rgb, info.input_size[::-1])[None])
            maps.append((outputs["association"][0].copy(), outputs["class_logits"][0].copy()))
    return info.geometry, info.num_classes, maps


def milliseconds(contestants: dict[str, Callable[..., object]], maps: Maps, rounds: int) -> dict[str, list[float]]:
    """Every contestant's times, taken in turn, map by map."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 2):
        for association, class_logits in maps:
            for name, run in contestants.items():
                time.sleep(PAUSE_S)
                run(association, class_logits)
                begin_s = time.perf_counter()
                run(association, class_logits)
                if turn > 1:  # two rounds to warm up
                    times[name].append(1e3 * (time.perf_counter() - begin_s))
    return times


def enlarged(run: Callable[..., list], size: tuple[int, int]) -> Callable[..., list]:
    """The standard operations, brought to a camera's size as the node does it for the form `labels`."""

    def at_size(association: np.ndarray, class_logits: np.ndarray) -> list:
        masks = run(association, class_logits)
        return [
            cv2.resize(np.asarray(mask[0]).astype(dtype, copy=False), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
            for mask, dtype in zip(masks, (np.uint8, np.uint8, np.uint16), strict=True)
        ]

    return at_size


def extra_memory(painter: Painter, maps: Maps, size: tuple[int, int]) -> float:
    """Megabytes at the peak of painting beside the outputs, as Python and numpy count them."""
    painter.paint(*maps[0], size)
    tracemalloc.start()
    painter.paint(*maps[0], size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (peak - 4 * size[0] * size[1]) / 1e6  # labels, confidence: a byte a pixel; superpixels: two


def table(engines: list[str], threads: int, rounds: int, given: tuple[PaintingGeometry, int, Maps] | None) -> str:
    """The figures as Markdown."""
    lines = [
        "| size, classes | labels | labels, superpixels | all three | memory beside the outputs | "
        + " | ".join(f"in the graph, {engine}: all three (times ours)" for engine in engines)
        + " |",
        "|---" * (5 + len(engines)) + "|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for classes in CLASSES if given is None else (given[1],):
            geometry = ROBOT if given is None else given[0]
            maps = random_maps(geometry, classes) if given is None else given[2]
            graphs = {engine: in_graph(geometry, classes, engine, Path(folder), threads) for engine in engines}
            for size in CAMERAS:
                painter = Painter(geometry, threads)
                contestants: dict[str, Callable[..., object]] = {
                    "labels": lambda a, c, p=painter, s=size: p.paint(a, c, s, confidence=False, superpixels=False),
                    "two": lambda a, c, p=painter, s=size: p.paint(a, c, s, confidence=False),
                    "all": lambda a, c, p=painter, s=size: p.paint(a, c, s),
                }
                same = size == geometry.input_size
                contestants |= {e: run if same else enlarged(run, size) for e, run in graphs.items()}
                times = milliseconds(contestants, maps, rounds)
                medians = {name: statistics.median(values) for name, values in times.items()}
                ratio = {
                    e: statistics.median(a / b for a, b in zip(times[e], times["all"], strict=True)) for e in engines
                }
                cells = [f"{medians[name]:.1f}" for name in ("labels", "two", "all")]
                cells.append(f"{extra_memory(painter, maps, size):.1f} MB")
                cells += [f"{medians[e]:.1f} ({ratio[e]:.1f})" for e in engines]
                lines.append(f"| {size[1]}x{size[0]}, {classes} | " + " | ".join(cells) + " |")
                painter.close()
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="a file of the form association, with --images")
    parser.add_argument("--images", type=Path, help="folder of images for the model's own maps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="of six maps each")
    parser.add_argument("--no-write", action="store_true", help="leave benchmarks/README.md as it is")
    args = parser.parse_args()
    keep_freed_memory()  # as the node does
    if (args.model is None) != (args.images is None):
        parser.error("--model and --images go together")
    given = None if args.model is None else maps_of(args.model, args.images)
    text = table(["OpenVINO f32", "OpenVINO bf16", "ONNX Runtime"], args.threads, args.rounds, given)
    print(text)
    if not args.no_write:
        write_between(README, "painting" if given is None else "painting-model", text)


if __name__ == "__main__":
    main()
