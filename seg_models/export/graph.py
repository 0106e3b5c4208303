"""Export a checkpoint as the deployment model: `python -m seg_models.export --checkpoint last.ckpt --out model.onnx`.

One ONNX file holds everything a robot needs: uint8 RGB in, uint8 labels and confidence (and int32 superpixels) out,
normalisation and argmax inside, class names, palette and origin in its metadata. The file is written only after ONNX
Runtime and PyTorch agreed on real images.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnx
import onnx_ir
import torch
from onnx_ir.passes import common as passes
from onnxscript.optimizer import fold_constants
from torch import Tensor, nn

from seg_models.data.image_files import ImageFileError, read_image
from seg_models.data.labels import LabelTable
from seg_models.export.node_names import name_after_modules
from seg_models.messages import one_line
from seg_models.segmentation_model import SegmentationModel
from seg_onnx.half_precision import to_half

FORMAT_VERSION = "1"
OPSET = 20


class Tolerance(NamedTuple):
    """What an exported file may differ from PyTorch in float32 by.

    Attributes:
        agreement: least share of pixels with the same label, and with the same superpixel.
        confidence: largest difference at any pixel, of 255.
    """

    agreement: float
    confidence: int


TOLERANCES = {
    "float32": Tolerance(0.999, 2),  # the rest are ties that the last bit of a float32 decides
    # Ten bits of a number instead of 23: more ties, and a probability near 0.5 moves by about a hundredth.
    "float16": Tolerance(0.99, 12),
}


class ExportError(ValueError):
    """An export that must not be written: bad input, or ONNX Runtime and PyTorch disagree."""


@dataclass(frozen=True)
class Origin:
    """Where a model comes from; ends up in the file's metadata."""

    name: str
    architecture: str
    training_data: str
    license: str = "Apache-2.0"
    source_commit: str = "unknown"


class DeploymentModel(nn.Module):
    """The contract's graph around a model: uint8 RGB (B, H, W, 3) -> uint8 labels, uint8 confidence, int32 superpixels."""

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(model.normalization["mean"]).reshape(1, 3, 1, 1))
        self.register_buffer("scale", 1.0 / torch.tensor(model.normalization["std"]).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, H, W, 3) -> labels (B, H, W), confidence (B, H, W) and, where the model has them, superpixels."""
        # The cast comes first: uint8 passes TensorRT's border through a Cast only.
        x = image.float().permute(0, 3, 1, 2)
        decision = self.model.decide((x - self.mean) * self.scale)  # type: ignore[operator]
        outputs = (decision.labels.to(torch.uint8), (decision.confidence * 255.0).round().to(torch.uint8))
        return outputs if decision.superpixels is None else (*outputs, decision.superpixels.to(torch.int32))


def export_onnx(
    model: SegmentationModel,
    table: LabelTable,
    origin: Origin,
    out: Path,
    images: list[np.ndarray],
    precision: str = "float32",
) -> dict[str, float]:
    """Write the deployment model after checking it.

    Args:
        model: any architecture, put into eval mode; its `image_size` becomes the file's input size. The batch stays free.
        table: names and palette of its K classes.
        origin: written into the metadata.
        out: the file; written only if the check passes, and then at once.
        images: RGB uint8 (h, w, 3) of any size, resized here; real ones, on noise an agreement says little.
        precision: "float32", or "float16" for GPUs (see `seg_onnx.half_precision`), half the size and checked less strictly.

    Returns:
        the figures of `compare`.

    Raises:
        ExportError: no images, classes that do not match, an unknown precision, or disagreement.
    """
    if precision not in TOLERANCES:
        raise ExportError(f"precision is {precision!r}; expected one of {', '.join(TOLERANCES)}")
    if not images:
        raise ExportError("no images to check the export with; name a folder of real photos or views with --images")
    if len(table.names) != model.num_classes:
        raise ExportError(
            f"the label table has {len(table.names)} classes, the model {model.num_classes}; they must match"
        )
    if not out.parent.is_dir():
        raise ExportError(f"{out.parent} is not a folder; make it first")
    deployment = DeploymentModel(model).eval()
    proto = deployment_graph(deployment)
    if precision == "float16":
        proto = to_half(proto)
    onnx.helper.set_model_props(proto, metadata(model, table, origin, precision))
    onnx.checker.check_model(proto)
    # Beside the target, so that the last step is a rename: no reader ever sees half a file.
    descriptor, temporary = tempfile.mkstemp(suffix=".onnx", dir=out.parent)
    os.close(descriptor)
    try:
        onnx.save(proto, temporary)
        figures = compare(deployment, Path(temporary), images)
        require_agreement(figures, TOLERANCES[precision], len(images))
        Path(temporary).chmod(0o644)
        os.replace(temporary, out)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return figures


def deployment_graph(deployment: DeploymentModel) -> onnx.ModelProto:
    """The contract's graph in float32, with a free batch, without metadata."""
    model = deployment.model
    height, width = model.image_size
    names = ["labels", "confidence"] + (["superpixels"] if model.superpixel_grid else [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        program = torch.onnx.export(
            deployment,
            (torch.zeros(2, height, width, 3, dtype=torch.uint8),),
            input_names=["image"],
            output_names=names,
            dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1, max=64)}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            optimize=False,
        )
    assert program is not None
    simplify(program.model)
    proto = program.model_proto
    name_after_modules(proto)
    strip_debug_text(proto)
    cast_first(proto)
    return proto


def simplify(model: onnx_ir.Model) -> None:
    """Fold constants and drop what is double or unused, in place.

    The exporter's own optimizer also tries hundreds of rewriting rules on every node, which takes as long as the export
    itself; ONNX Runtime, OpenVINO and TensorRT rewrite on their own, and are as quick without.
    """
    fold_constants(model)
    onnx_ir.passes.Sequential(
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.IdentityEliminationPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
    )(model)


def metadata(model: SegmentationModel, table: LabelTable, origin: Origin, precision: str) -> dict[str, str]:
    """The contract's metadata_props."""
    values = {
        "format_version": FORMAT_VERSION,
        "name": origin.name,
        "architecture": origin.architecture,
        "class_names": json.dumps(list(table.names)),
        "palette": json.dumps([list(colour) for colour in table.palette]),
        "input_size": json.dumps(list(model.image_size)),
        "normalization": json.dumps(model.normalization),
        "training_data": origin.training_data,
        "license": origin.license,
        "source_commit": origin.source_commit,
        "precision": precision,
    }
    if model.superpixel_grid:
        values["superpixel_grid"] = json.dumps(list(model.superpixel_grid))
    return values


def strip_debug_text(proto: onnx.ModelProto) -> None:
    """Drop the exporter's per-node notes: stack traces with this machine's paths, a third of a small file."""
    for item in [*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output]:
        del item.metadata_props[:]
    for node in proto.graph.node:
        node.doc_string = ""
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
    del proto.graph.metadata_props[:]


def cast_first(proto: onnx.ModelProto) -> None:
    """Make the Cast the only reader of the uint8 input: with a free batch the exporter lets a Shape read it too."""
    nodes = proto.graph.node
    cast = next(node for node in nodes if node.op_type == "Cast" and "image" in node.input)
    for node in nodes:
        if node is not cast:
            for i, name in enumerate(node.input):
                if name == "image":
                    node.input[i] = cast.output[0]
    ordered = [cast, *(node for node in nodes if node is not cast)]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del nodes[:]
    nodes.extend(copies)


def compare(deployment: DeploymentModel, path: Path, images: list[np.ndarray]) -> dict[str, float]:
    """Run the file in ONNX Runtime beside PyTorch.

    Returns:
        label_agreement and superpixel_agreement (share of equal pixels), confidence_difference (largest, of 255).
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    equal = owners_equal = pixels = 0
    difference = 0
    size = deployment.model.image_size  # (H, W)
    resized = [cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for image in images]
    # Two at once where there are two: the batch is free, and a file that mixed its images up would not be seen by one.
    for batch in (np.stack(resized[i : i + 2]) for i in range(0, len(resized), 2)):
        with torch.inference_mode():
            expected = [output.numpy() for output in deployment(torch.from_numpy(batch))]
        actual = session.run(None, {"image": batch})
        pixels += expected[0].size
        equal += int((expected[0] == actual[0]).sum())
        # Where two classes tie, their confidences are the same; no pixel is exempt.
        difference = max(difference, int(np.abs(expected[1].astype(int) - actual[1].astype(int)).max()))
        if len(expected) > 2:
            owners_equal += int((expected[2] == actual[2]).sum())
    figures: dict[str, float] = {"label_agreement": equal / pixels, "confidence_difference": difference}
    if len(expected) > 2:
        figures["superpixel_agreement"] = owners_equal / pixels
    return figures


def require_agreement(figures: dict[str, float], tolerance: Tolerance, count: int) -> None:
    """Raise ExportError where the figures of `compare` on `count` images differ more than the tolerance allows."""
    too_low = [k for k, v in figures.items() if k.endswith("agreement") and v < tolerance.agreement]
    if too_low or figures["confidence_difference"] > tolerance.confidence:
        raise ExportError(
            f"ONNX Runtime and PyTorch disagree on {count} images: {figures}; expected agreements of at least "
            f"{tolerance.agreement} and a difference of at most {tolerance.confidence}; nothing was written"
        )


def read_images(folder: Path, limit: int = 8) -> list[np.ndarray]:
    """Up to `limit` RGB images, evenly spread over a folder and those below it.

    Raises:
        ExportError: no folder, no image in it, or one that cannot be decoded.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise ExportError(f"no .jpg or .png below {folder}; --images needs a folder of real images to check with")
    chosen = np.linspace(0, len(paths) - 1, min(len(paths), limit)).round().astype(int)
    images = []
    for path in (paths[i] for i in chosen):
        try:
            images.append(read_image(path))
        except ImageFileError as error:
            raise ExportError(f"{error}; replace or delete it") from error
    return images


def source_commit() -> str:
    """The repository's commit, with a + where this package's files differ from it; "unknown" outside a checkout."""
    root = Path(__file__).parents[1]
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no", "--", "."],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input or a failed check, one line says what)."""
    from seg_models.checkpoints.released import released_model, released_recipe
    from seg_models.checkpoints.trained import load_task
    from seg_models.data.labels import read_label_table
    from seg_models.training.recipe import naming

    parser = argparse.ArgumentParser(prog="python -m seg_models.export", description=(__doc__ or "").splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="checkpoint of seg_models.train")
    source.add_argument("--released", type=Path, help="the authors' released file, with --recipe")
    parser.add_argument(
        "--recipe",
        type=Path,
        help="of the model that --released holds; its data names the classes. A checkpoint has its own",
    )
    parser.add_argument("--out", type=Path, required=True, help="the .onnx file")
    parser.add_argument(
        "--images", type=Path, help="real images to check with (default: the recipe's validation split)"
    )
    parser.add_argument(
        "--precision", choices=list(TOLERANCES), default="float32", help="float16: for GPUs; half the size"
    )
    parser.add_argument("--license", default="Apache-2.0", help="licence of the weights")
    args = parser.parse_args(arguments)
    try:
        if args.checkpoint:
            task = load_task(args.checkpoint)
            recipe, table, model = task.recipe, task.table, task.model
            if args.recipe:
                print(
                    f"{args.checkpoint} carries its own recipe, {recipe.name}, which is taken; {args.recipe} is not read"
                )
        else:
            recipe = released_recipe(args.recipe)
            table = read_label_table(Path(recipe.data.roots[0]) / "classes.yaml")
            with naming(args.recipe):
                model = released_model(recipe, args.released, len(table.names))
        data = recipe.data
        folder = args.images or Path(data.roots[0]) / "images" / data.val_split
        training_data = data.description or str(data.roots)
        origin = Origin(recipe.name, recipe.model.name, training_data, args.license, source_commit())
        figures = export_onnx(model, table, origin, args.out, read_images(folder), args.precision)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error, 1500)}", file=sys.stderr)
        return 2
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB); against PyTorch: {figures}")
    return 0
