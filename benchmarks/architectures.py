"""Every architecture here, trained from scratch with the same budget, data and seeds, scored on rooms it has not seen.

    .venv-test/bin/python -m benchmarks.architectures --data data/rooms --out out/architectures

Two scales. `tiny` runs on a CPU: each model is shrunk to about 0.3 G multiply-accumulates an image and sees 192x256 pixels.
`small` is for a GPU: the papers' smallest published forms at 384x512. No model starts from ImageNet weights: there are
none for most of the backbones, and the comparison is of the architectures. Optimiser, learning rate, augmentation, steps
and batch are the same for all, so none is tuned; plain transformers are known to need more data than this from scratch.

Each run is a line in `runs.jsonl`; a run that is there already is not made again, so a stopped benchmark goes on where it
was. At the end all models take turns to be timed, and `table.md` is written.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from seg_models.backbones.cswin import CSWinShape
from seg_models.build import build_model
from seg_models.data.folder import FolderDataset
from seg_models.data.transforms import RandomScaleCropFlip
from seg_models.normalization import normalize
from seg_models.segmentation_model import SegmentationModel
from seg_models.summary import multiply_accumulates
from seg_models.training.metrics import ConfusionMatrix


@dataclass(frozen=True)
class Contestant:
    """A model of the comparison: arguments of `build_model`."""

    name: str
    architecture: str
    backbone: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """What all runs share.

    Attributes:
        size: (H, W) of the crops and of the network.
        steps, batch_size, lr: of AdamW, with a linear warm-up over a tenth of the steps and a linear decay to 0.
        contestants: the models.
        pretrained: start from ImageNet weights, where a package ships them.
    """

    size: tuple[int, int]
    steps: int
    batch_size: int
    lr: float
    contestants: tuple[Contestant, ...]
    pretrained: bool = False


VIT = "vit_tiny_patch16_384"
TINY_VIT = {"timm_options": {"embed_dim": 128, "depth": 6, "num_heads": 4}}
TINY_SWIN = {"timm_options": {"embed_dim": 32, "depths": (2, 2, 4, 2), "num_heads": (1, 2, 4, 8), "window_size": 8}}
TINY_CSWIN = {"shape": CSWinShape(32, (1, 2, 6, 1), (2, 4, 8, 16), (1, 2, 4))}
DEEP_ENOUGH = {"token_head_layers": 3}  # half of the layers, as 5 of 12 would be 2 of 6

SCALES = {
    "tiny": Scale(
        size=(192, 256),
        steps=400,
        batch_size=8,
        lr=1e-3,
        contestants=(
            Contestant("linear", "linear", VIT, TINY_VIT),
            Contestant("Segmenter", "segmenter", VIT, {**TINY_VIT, "decoder_dropout": 0.0}),
            Contestant("RegProxy", "regproxy", VIT, TINY_VIT | DEEP_ENOUGH),
            Contestant("RegProxy pilot (SLIC)", "regproxy_pilot", VIT, TINY_VIT),
            Contestant("SegViT", "segvit", VIT, {**TINY_VIT, "decoder_dropout": 0.0}),
            Contestant("SegViT Shrunk", "segvit_shrunk", VIT, {**TINY_VIT, "decoder_dropout": 0.0}),
            Contestant(
                "SegViT on Swin",
                "segvit_pyramid",
                "swin_tiny_patch4_window7_224",
                {**TINY_SWIN, "decoder_width": 64, "decoder_layers": 1, "decoder_dropout": 0.0},
            ),
            Contestant("RSSeg", "rsseg", VIT, {**TINY_VIT, "local_width": 48}),
            Contestant(
                "RSSeg on CSWin", "rsseg_pyramid", "cswin_tiny", {**TINY_CSWIN, "hidden_width": 192, "interval": 3}
            ),
            Contestant("Superpixel Transformer", "superpixel_transformer", "mobilenetv4_conv_small", {"width": 96}),
            Contestant(
                "Superpixel Transformer, loss on all pixels",
                "superpixel_transformer",
                "mobilenetv4_conv_small",
                {"width": 96, "hard_pixel_fraction": 1.0},
            ),
        ),
    ),
    "small": Scale(
        size=(384, 512),
        steps=8_000,
        batch_size=16,
        lr=5e-4,
        contestants=(
            Contestant("linear", "linear", "vit_small_patch16_384"),
            Contestant("Segmenter", "segmenter", "vit_small_patch16_384"),
            Contestant("RegProxy", "regproxy", "vit_small_patch16_384"),
            Contestant("RegProxy pilot (SLIC)", "regproxy_pilot", "vit_small_patch16_384"),
            Contestant("SegViT", "segvit", "vit_small_patch16_384"),
            Contestant("SegViT Shrunk", "segvit_shrunk", "vit_small_patch16_384"),
            Contestant("SegViT on Swin", "segvit_pyramid", "swin_tiny_patch4_window7_224"),
            Contestant("RSSeg", "rsseg", "vit_small_patch16_384"),
            Contestant("RSSeg on CSWin", "rsseg_pyramid", "cswin_tiny"),
            Contestant("Superpixel Transformer", "superpixel_transformer", "resnet50"),
            Contestant(
                "Superpixel Transformer, loss on all pixels",
                "superpixel_transformer",
                "resnet50",
                {"hard_pixel_fraction": 1.0},
            ),
        ),
    ),
}


class Pictures:
    """A split in memory, shrunk once to a little more than the network needs.

    Decoding would otherwise be a fifth of a small model's training time, and the same for all.
    """

    def __init__(self, data: FolderDataset, size: tuple[int, int]) -> None:
        self.pairs = []
        for index in range(len(data)):
            image, labels = data.read(index)
            scale = min(1.0, 1.5 * max(size[0] / image.shape[0], size[1] / image.shape[1]))
            target = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            image = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
            self.pairs.append((image, cv2.resize(labels, target, interpolation=cv2.INTER_NEAREST)))

    def batches(self, scale: Scale, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`steps` batches: uint8 (B, H, W, 3), int64 (B, H, W); order and augmentation follow from the seed."""
        augment = RandomScaleCropFlip(scale.size)
        generator = np.random.default_rng(seed)
        order: list[int] = []
        for _ in range(steps):
            while len(order) < scale.batch_size:
                order += generator.permutation(len(self.pairs)).tolist()
            chosen, order = order[: scale.batch_size], order[scale.batch_size :]
            images, labels = zip(*(augment(*self.pairs[i], generator) for i in chosen), strict=True)
            yield torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels)).long()


def normalized(model: SegmentationModel, images: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> float (B, 3, H, W), as the model wants it."""
    return normalize(images.permute(0, 3, 1, 2), model.normalization)


class Trainer:
    """AdamW on matrices and vectors, weight decay on the former alone, in bfloat16 where autocast allows it."""

    def __init__(self, model: SegmentationModel, scale: Scale, steps: int, device: str) -> None:
        self.model, self.device = model.to(device).train(), device
        decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
        others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
        self.parameters = [*decayed, *others]
        self.optimizer = torch.optim.AdamW(groups, scale.lr)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, scale.lr, max(steps, 2), pct_start=0.1, anneal_strategy="linear"
        )

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One update on uint8 images (B, H, W, 3) and int64 labels (B, H, W)."""
        self.optimizer.zero_grad()
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            prediction = self.model(normalized(self.model, images.to(self.device)))
        torch.stack(list(self.model.loss(prediction, labels.to(self.device)).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()


def score(model: SegmentationModel, data: FolderDataset, size: tuple[int, int], device: str) -> ConfusionMatrix:
    """Labels at the network's size, scored at the size of each mask (nearest). Images shrink as in training, by area."""
    confusion = ConfusionMatrix(len(data.table.names))
    model.eval()
    for index in range(len(data)):
        image, labels = data.read(index)
        batch = torch.from_numpy(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)[None]).to(device)
        with torch.inference_mode():
            predicted = model.decide(normalized(model, batch)).labels[0].to(torch.uint8).cpu().numpy()
        predicted = cv2.resize(predicted, labels.shape[::-1], interpolation=cv2.INTER_NEAREST)
        confusion.add(torch.from_numpy(predicted), torch.from_numpy(labels))
    return confusion


def build(contestant: Contestant, num_classes: int, scale: Scale) -> SegmentationModel:
    """The model, with fresh weights, or the backbone's of ImageNet if the scale says so."""
    return build_model(
        contestant.architecture,
        contestant.backbone,
        num_classes,
        scale.size,
        scale.pretrained,
        **copy.deepcopy(contestant.options),
    )


def run(contestant: Contestant, scale: Scale, steps: int, seed: int, data: Path, device: str) -> dict[str, Any]:
    """One training from scratch and its scores on the data that it has not seen."""
    training, unseen = FolderDataset([data], "train"), FolderDataset([data], "val")
    torch.manual_seed(seed)
    model = build(contestant, len(training.table.names), scale)
    trainer = Trainer(model, scale, steps, device)
    for images, labels in Pictures(training, scale.size).batches(scale, steps, seed):
        trainer.step(images, labels)
    scores = score(model, unseen, scale.size, device).scores()
    return {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy, "images": len(unseen)}


def costs(scale: Scale, num_classes: int, device: str, rounds: int = 5) -> dict[str, dict[str, Any]]:
    """Size and speed of every model: parameters, multiply-accumulates, and for each round the median time of `decide` on
    one image and the time of a training step, in ms. The models take turns, so that a busy moment meets all of them."""
    figures: dict[str, dict[str, Any]] = {}
    trainers = {c.name: Trainer(build(c, num_classes, scale), scale, rounds + 1, device) for c in scale.contestants}
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (scale.batch_size, *scale.size, 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, num_classes, (scale.batch_size, *scale.size), generator=generator)
    for contestant in scale.contestants:
        with torch.device("meta"):
            macs = multiply_accumulates(build(contestant, num_classes, scale), scale.size)
        params = sum(p.numel() for p in trainers[contestant.name].model.parameters())
        figures[contestant.name] = {"params": params, "macs": macs, "latency_ms": [], "step_ms": []}
    for number in range(rounds + 1):
        for name, trainer in trainers.items():
            step = timed_ms(lambda trainer=trainer: trainer.step(images, labels), device)
            model = trainer.model.eval()
            one = normalized(model, images[:1].to(device))
            with torch.inference_mode():
                calls = [timed_ms(lambda model=model, one=one: model.decide(one), device) for _ in range(6)]
            model.train()
            if number > 0:  # the first round warms up
                figures[name]["step_ms"].append(step)
                figures[name]["latency_ms"].append(statistics.median(calls[1:]))
    return figures


def timed_ms(call: Callable[[], Any], device: str) -> float:
    """How long a call takes, the device's queue included."""
    started = time.perf_counter()
    call()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - started)


def spread(values: list[float], digits: int) -> str:
    """median (smallest-largest)."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(runs: list[dict[str, Any]], cost: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row for each model, the best median mIoU first. Times are ratios to the first model's, round by round."""
    reference = next(iter(cost.values()))
    rows = []
    for name, own in cost.items():
        scores = [r for r in runs if r["name"] == name]
        if not scores:
            continue
        ratios = {
            key: spread([a / b for a, b in zip(own[key], reference[key], strict=True)], 2)
            for key in ("latency_ms", "step_ms")
        }
        cells = [
            name,
            spread([100 * r["miou"] for r in scores], 1),
            spread([100 * r["pixel_accuracy"] for r in scores], 1),
            f"{own['params'] / 1e6:.2f}",
            f"{own['macs'] / 1e9:.2f}",
            f"{statistics.median(own['latency_ms']):.1f}",
            ratios["latency_ms"],
            ratios["step_ms"],
            str(len(scores)),
        ]
        rows.append((statistics.median(r["miou"] for r in scores), "| " + " | ".join(cells) + " |"))
    head = "| model | mIoU % | pixel accuracy % | params M | GMAC | ms an image | / linear | training step / linear | seeds |"
    return "\n".join([head, "|" + "---|" * 9, *(row for _, row in sorted(rows, reverse=True))]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.architectures", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data/rooms"), help="folder data set; trains on train, scores val"
    )
    parser.add_argument("--out", type=Path, default=Path("out/architectures"))
    parser.add_argument("--scale", choices=sorted(SCALES), default="tiny")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="other than the scale's own")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the models")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: PyTorch's choice")
    args = parser.parse_args(arguments)
    scale = SCALES[args.scale]
    steps = scale.steps if args.steps is None else args.steps
    if args.seeds < 1 or steps < 1:
        parser.error(f"--seeds is {args.seeds}, --steps {steps}; expected at least 1")
    try:
        classes = len(FolderDataset([args.data], "train").table.names)
    except ValueError as error:
        parser.error(str(error))
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    names = [c.name for c in scale.contestants]
    unknown = set(args.only or ()) - set(names)
    if unknown:
        parser.error(f"no model {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    chosen = tuple(c for c in scale.contestants if not args.only or c.name in args.only)
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / "runs.jsonl"
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    for seed in range(args.seeds):  # seeds outside: a stopped benchmark has every model once first
        for contestant in chosen:
            key = {"scale": args.scale, "name": contestant.name, "seed": seed, "steps": steps, "data": args.data.name}
            if any(key.items() <= r.items() for r in runs):
                continue
            started = time.perf_counter()
            figures = key | run(contestant, scale, steps, seed, args.data, args.device)
            runs.append(figures)
            with log.open("a") as file:
                file.write(json.dumps(figures) + "\n")
            seconds = time.perf_counter() - started
            print(f"{contestant.name}, seed {seed}: mIoU {figures['miou']:.3f}, {seconds:.0f} s", flush=True)
    of_these = {"scale": args.scale, "steps": steps, "data": args.data.name}
    cost = costs(dataclasses.replace(scale, contestants=chosen), classes, args.device)
    text = table([r for r in runs if of_these.items() <= r.items()], cost)
    (args.out / "table.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
