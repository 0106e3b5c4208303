"""The command: a subcommand a figure, each of which leaves pictures and numbers in a folder."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import gaussian_kde
from torch import Tensor

from seg_models.analyse.attention import class_attention, patch_attention
from seg_models.analyse.drawing import curves, heat_over, named_points, write_png
from seg_models.analyse.embeddings import class_embeddings, projected
from seg_models.analyse.errors import AnalysisError
from seg_models.analyse.features import filtered_features
from seg_models.analyse.pictures import strip
from seg_models.analyse.regions import association_of, probability_maps, region_entropies
from seg_models.analyse.speed import PRINTED_MS, measured
from seg_models.architectures.superpixel_transformer.model import SuperpixelTransformer
from seg_models.build import model_from_recipe
from seg_models.checkpoints.trained import TrainedTask, load_task
from seg_models.data.folder import FolderDataset
from seg_models.data.image_files import read_image
from seg_models.data.layouts.opening import KINDS
from seg_models.data.transforms import Resize
from seg_models.messages import one_line
from seg_models.normalization import normalize
from seg_models.training.recipe import read_recipe

ENTROPY_BINS = 40


def squeezed(task: TrainedTask, path: Path) -> tuple[np.ndarray, Tensor]:
    """An image at the network's size: uint8 RGB (H, W, 3), and normalised (1, 3, H, W)."""
    size = task.model.image_size
    image = read_image(path)
    rgb, _ = Resize(size)(image, np.zeros(image.shape[:2], np.uint8), np.random.default_rng(0))
    return rgb, normalize(torch.from_numpy(rgb).permute(2, 0, 1)[None], task.model.normalization)


def class_numbers(task: TrainedTask, names: list[str]) -> list[int]:
    """Numbers of named classes. Raises AnalysisError for a name that the model does not have."""
    known = task.table.names
    for name in names:
        if name not in known:
            raise AnalysisError(f"no class {name!r}; the model has {', '.join(known)}")
    return [known.index(name) for name in names]


def attention(args: argparse.Namespace) -> dict[str, Any]:
    """Segmenter, Figures 1 and 7 (--patch); SegViT, Figure 1, and RSSeg, Figure 7 (--classes)."""
    task = load_task(args.checkpoint)
    rgb, image = squeezed(task, args.image)
    if args.classes:
        numbers = class_numbers(task, args.classes)
        found = class_attention(task.model, image, numbers)
        pictures = {
            f"{kind}_{name.replace('/', '-')}": heat_over(rgb, maps[i].numpy())
            for kind, maps in found.items()
            for i, name in enumerate(args.classes)
        }
    else:
        if not args.patch:
            raise AnalysisError("nothing to look at; give --patch ROW COLUMN, once or more, or --classes NAME ...")
        patches = [(row, col) for row, col in args.patch]
        maps = patch_attention(task.model, image, patches, args.layers)
        blur = task.model.stride / 2  # "a Gaussian filter matching the model input patch size" (appendix C)
        pictures = {
            f"layer{layer}_patch{row}-{col}": heat_over(rgb, maps[i, j].numpy(), blur)
            for i, layer in enumerate(args.layers)
            for j, (row, col) in enumerate(patches)
        }
    for name, picture in pictures.items():
        write_png(args.out / f"{name}.png", picture)
    return {"pictures": sorted(pictures)}


def features(args: argparse.Namespace) -> dict[str, Any]:
    """RSSeg, Figure 8."""
    task = load_task(args.checkpoint)
    rgb, image = squeezed(task, args.image)
    found = filtered_features(task.model, image)
    for name, values in found.items():
        write_png(args.out / f"{name}.png", heat_over(rgb, values.numpy()))
    return {name: {"mean": float(values.mean()), "deviation": float(values.std())} for name, values in found.items()}


def embeddings(args: argparse.Namespace) -> dict[str, Any]:
    """Segmenter, Figure 8."""
    task = load_task(args.checkpoint)
    points = projected(class_embeddings(task.model)).numpy()
    write_png(args.out / "embeddings.png", named_points(points, task.table.names))
    return {name: [float(x), float(y)] for name, (x, y) in zip(task.table.names, points, strict=True)}


def regions(args: argparse.Namespace) -> dict[str, Any]:
    """RegProxy, Figure 6 left (--data), Figure 6 right and Figure 8 (--image)."""
    task = load_task(args.checkpoint)
    if args.image is not None:
        rgb, image = squeezed(task, args.image)
        association, cell = association_of(task.model, image)
        maps = probability_maps(association, cell)  # (regions, h, w)
        wrong = [number for number in args.regions if not 0 <= number < len(maps)]
        if wrong:
            raise AnalysisError(f"region {wrong[0]}; expected 0 to {len(maps) - 1}, in raster order")
        for number in args.regions:
            write_png(args.out / f"region{number}.png", heat_over(rgb, maps[number].numpy()))
        return {"regions": len(maps), "pictures": [f"region{number}" for number in args.regions]}
    if args.data is None:
        raise AnalysisError("nothing to look at; give --data for entropies, or --image and --regions for pictures")
    data = FolderDataset([args.data], args.split, Resize(task.model.image_size), kind=args.kind)
    if data.table.names != task.table.names:
        raise AnalysisError(f"{args.data} has other classes than the model")
    found: dict[str, list[Tensor]] = {}
    for number in range(len(data)):
        pixels, labels = data[number]
        image = normalize(pixels[None], task.model.normalization)
        for source, values in region_entropies(task.model, image, pixels[None].float() / 255, labels).items():
            found.setdefault(source, []).append(values)
    joined = {source: torch.cat(values).numpy() for source, values in found.items()}
    mixed = {source: values[values > 1e-9] for source, values in joined.items()}
    x = np.linspace(0, max((float(v.max()) for v in mixed.values() if len(v)), default=1.0), 200)
    drawn = {source: gaussian_kde(v)(x) for source, v in mixed.items() if len(np.unique(v)) > 1}
    if drawn:
        write_png(args.out / "entropies.png", curves(x, drawn, "entropy of a region in bits, regions of 0 left out"))
    return {
        source: {
            "regions": len(values),
            "mean_bits": float(values.mean()) if len(values) else None,
            "share_of_one_class": float((values <= 1e-9).mean()) if len(values) else None,
            "histogram": np.histogram(mixed[source], ENTROPY_BINS, (0.0, float(x[-1])))[0].tolist(),
        }
        for source, values in joined.items()
    }


def pictures(args: argparse.Namespace) -> dict[str, Any]:
    """Superpixel Transformer, Figure 4, and the others' pictures: image, truth, predictions, errors side by side."""
    tasks = [load_task(path) for path in (args.checkpoint, *args.beside)]
    first = tasks[0]
    data = FolderDataset([args.data], args.split, Resize(first.model.image_size), kind=args.kind)
    for task in tasks:
        if task.table.names != data.table.names:
            raise AnalysisError(f"a model has other classes than {args.data}: {', '.join(task.table.names)}")
    chosen = np.linspace(0, len(data) - 1, min(args.count, len(data))).round().astype(int)
    found = {}
    for number in chosen:
        pixels, labels = data[int(number)]
        image, truth = pixels.permute(1, 2, 0).contiguous().numpy(), labels.numpy().astype(np.uint8)
        picture, wrong = strip(image, truth, [task.model for task in tasks], data.table.palette)
        name = f"{number:05d}_{data.images[int(number)].stem}"
        write_png(args.out / f"{name}.png", picture)
        found[name] = wrong
    return {"pictures": list(found), "share_of_wrong_pixels": found}


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """RegProxy, Figure 7: IoU of each class of one model, and others' differences from it."""
    read = []
    for path in args.figures:
        try:
            read.append(json.loads(path.read_text(encoding="utf-8"))["iou"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise AnalysisError(f"{path} holds no IoU of classes; expected what evaluate --json writes") from error
        if list(read[-1]) != list(read[0]):
            raise AnalysisError(f"{path} has other classes than {args.figures[0]}")
    differences: dict[str, list[float | None]] = {}
    for name, iou in read[0].items():
        others = [other[name] for other in read[1:]]
        differences[name] = [None if iou is None or other is None else 100 * (other - iou) for other in others]
        shown = "  ".join("     -" if value is None else f"{value:+6.1f}" for value in differences[name])
        print(f"{name:>20} {'     -' if iou is None else f'{100 * iou:6.1f}'}  {shown}")
    return {"iou": read[0], "differences_in_points": differences}


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Superpixel Transformer, Table IV, and the frames a second of the others' tables; weights do not matter."""
    if args.checkpoint is not None:
        model = load_task(args.checkpoint).model
    elif args.config is not None:
        model = model_from_recipe(
            read_recipe(args.config, args.overrides, args.row), args.num_classes, pretrained=False
        )
    else:
        raise AnalysisError("nothing to measure; give --checkpoint, or --config, with --row for a row of a paper")
    try:
        device = torch.device(args.device)
        model = model.eval().to(device)
    except (RuntimeError, AssertionError) as error:
        raise AnalysisError(f"--device {args.device}: {one_line(error, 200)}") from error
    image = torch.zeros(args.batch, 3, *model.image_size, device=device)
    times = measured(model, image, args.runs)
    compared = PRINTED_MS if isinstance(model, SuperpixelTransformer) else {}
    for name, value in times.items():
        print(f"{name:>16} {value:10.2f} ms" + (f"   Table IV, V100: {compared[name]:.1f}" if name in compared else ""))
    result = {"ms": times, "images_per_second": 1000 * args.batch / times["total"], "device": str(device)}
    if device.type == "cuda":
        result["peak_memory_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    return result


def parser() -> argparse.ArgumentParser:
    """All subcommands."""
    main_parser = argparse.ArgumentParser(
        prog="python -m seg_models.analyse",
        description="The papers' figures for a checkpoint: pictures and figures.json.",
    )
    commands = main_parser.add_subparsers(dest="command", required=True)

    def add(name: str, run: Any, needs_checkpoint: bool = True) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=run.__doc__.splitlines()[0])
        one.add_argument("--checkpoint", type=Path, required=needs_checkpoint, help="checkpoint of seg_models.train")
        one.add_argument(
            "--out", type=Path, required=True, help="folder for the pictures and figures.json; made if need be"
        )
        one.set_defaults(run=run)
        return one

    one = add("attention", attention)
    one.add_argument("--image", type=Path, required=True)
    one.add_argument(
        "--patch", type=int, nargs=2, action="append", metavar=("ROW", "COLUMN"), help="in the grid of tokens"
    )
    one.add_argument("--layers", type=int, nargs="+", default=[1, 4, 8, 12], help="from 1 (default: %(default)s)")
    one.add_argument("--classes", nargs="+", help="class tokens of the decoder instead: SegViT, RSSeg")
    add("features", features).add_argument("--image", type=Path, required=True)
    add("embeddings", embeddings)
    one = add("regions", regions)
    one.add_argument("--image", type=Path, help="draw probability maps of --regions")
    one.add_argument("--regions", type=int, nargs="+", default=[0], help="in raster order, from 0")
    one.add_argument("--data", type=Path, help="distribution of entropies over a data set")
    one.add_argument("--kind", choices=KINDS, default="folder")
    one.add_argument("--split", default="val")
    one = add("pictures", pictures)
    one.add_argument(
        "--beside", type=Path, nargs="+", default=[], help="checkpoints of further models of the same classes"
    )
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--kind", choices=KINDS, default="folder")
    one.add_argument("--split", default="val")
    one.add_argument(
        "--count", type=int, default=16, help="images, evenly spread over the split (default: %(default)s)"
    )
    one = commands.add_parser("compare", help=(compare.__doc__ or "").splitlines()[0])
    one.add_argument(
        "--figures", type=Path, nargs="+", required=True, help="what evaluate --json wrote; the first is the base"
    )
    one.add_argument("--out", type=Path, required=True, help="folder for figures.json")
    one.set_defaults(run=compare)
    one = add("speed", speed, needs_checkpoint=False)
    one.add_argument("--config", type=Path, help="recipe, or with --row a file of rows; random weights")
    one.add_argument("--row")
    one.add_argument("--num-classes", type=int, default=150)
    one.add_argument("--device", default="cpu", help="such as cuda:0 (default: %(default)s)")
    one.add_argument("--batch", type=int, default=1)
    one.add_argument("--runs", type=int, default=10)
    one.add_argument("overrides", nargs="*", metavar="key=value", help="of the recipe")
    return main_parser


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    args = parser().parse_args(arguments)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        found = args.run(args)
        (args.out / "figures.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error, 1500)}", file=sys.stderr)
        return 2
    print(f"wrote {args.out}")
    return 0
