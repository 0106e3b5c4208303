"""Train a model by a recipe: `python -m seg_models.train --config config/recipes/rooms_spt_lite0.yaml`.

Lightning runs the loop. In the run's folder it leaves checkpoints (`last.ckpt`, and one at each validation), the
recipe as it was run, and TensorBoard logs. `--resume` goes on from the last checkpoint. One machine, `torchrun` and
SLURM take the same command (`trainer.devices`, `trainer.num_nodes`).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from seg_models.backbones.conv import ConvBackbone
from seg_models.build import build_model
from seg_models.checkpoints.convolutional import load_convolutional_backbone
from seg_models.checkpoints.released import load_released
from seg_models.data.labels import LabelTable
from seg_models.data.loaders import RecipeData, loaders
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.metrics import ConfusionMatrix
from seg_models.training.optimization import check_optimization, make_optimizer, make_scheduler
from seg_models.training.recipe import Recipe, RecipeError, read_recipe, recipe_from_dict


def normalize(image: Tensor, normalization: dict[str, list[float]]) -> Tensor:
    """RGB (B, 3, H, W), uint8 or float in 0..255 -> float, (image - mean) / std.

    Channels last: the layout that convolutions are quickest in.
    """
    mean = torch.tensor(normalization["mean"], device=image.device).reshape(1, 3, 1, 1)
    std = torch.tensor(normalization["std"], device=image.device).reshape(1, 3, 1, 1)
    return ((image - mean) / std).contiguous(memory_format=torch.channels_last)


def model_from_recipe(recipe: Recipe, num_classes: int, pretrained: bool | None = None) -> SegmentationModel:
    """The recipe's model; `pretrained` overrides the recipe's (a checkpoint's weights replace them anyway)."""
    model = recipe.model
    return build_model(
        model.name,
        model.backbone,
        num_classes,
        (model.image_size[0], model.image_size[1]),
        model.pretrained if pretrained is None else pretrained,
        model.drop_path_rate,
        **model.options,
    )


class SegmentationTask(lightning.LightningModule):
    """A model with its recipe: loss, optimiser, schedule, validation.

    The checkpoint carries the recipe and the label table as plain values, so it can be evaluated and exported alone.
    """

    def __init__(self, recipe: dict[str, Any], table: dict[str, Any], pretrained: bool | None = None) -> None:
        super().__init__()
        self.save_hyperparameters("recipe", "table")
        self.recipe = recipe_from_dict(recipe)
        self.table = LabelTable(tuple(table["names"]), tuple(tuple(c) for c in table["palette"]))  # type: ignore[arg-type]
        self.model = model_from_recipe(self.recipe, len(self.table.names), pretrained)
        self.confusion = ConfusionMatrix(len(self.table.names))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """One batch: images (B, 3, H, W) in 0..255, int64 labels (B, H, W) -> the sum of the paper's loss terms."""
        image, labels = batch
        terms = self.model.loss(self.model(normalize(image, self.model.normalization)), labels)
        loss = torch.stack(list(terms.values())).sum()
        self.log("loss", loss, prog_bar=True)
        self.log_dict({f"loss/{name}": value for name, value in terms.items()})
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start counting anew."""
        self.confusion = ConfusionMatrix(len(self.table.names))

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Count one batch at the network's size."""
        image, labels = batch
        prediction = self.model(normalize(image, self.model.normalization))
        self.confusion.add(prediction.logits.argmax(1), labels)

    def on_validation_epoch_end(self) -> None:
        """Log mIoU and pixel accuracy over all processes."""
        if self.trainer.world_size > 1:
            gathered = self.all_gather(self.confusion.counts.to(self.device))
            assert isinstance(gathered, Tensor)
            self.confusion.counts = gathered.sum(0).cpu()
        scores = self.confusion.scores()
        self.log("val/miou", scores.miou, prog_bar=True)
        self.log("val/pixel_accuracy", scores.pixel_accuracy)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser, and its schedule stepped with it."""
        optimizer = make_optimizer(self.model, self.recipe.optimizer)
        scheduler = make_scheduler(optimizer, self.recipe.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def init_backbone_from(model: SegmentationModel, path: Path) -> None:
    """Start from a released file: of the backbone, such as timm's, or of the whole model. Prints what was loaded.

    Raises:
        CheckpointError: unreadable, or not of this model or its backbone.
    """
    is_convolutional = isinstance(model.backbone, ConvBackbone)
    report = load_convolutional_backbone(model, path) if is_convolutional else load_released(model, path)
    rank_zero_only(print)(
        f"{path}: {report.loaded} tensors loaded, {len(report.resized)} of them resized, {len(report.derived)} made of them; "
        f"{len(report.unused)} of the file not used, {len(report.untouched)} of the model not in it"
    )


def train(
    recipe: Recipe, out: Path, resume: bool = False, init_from: Path | None = None, init_backbone: Path | None = None
) -> Path:
    """Run a recipe.

    Args:
        recipe: what to train.
        out: folder of the run; made if need be.
        resume: go on from out/last.ckpt.
        init_from: start from the weights of this checkpoint of the same model (fine-tuning).
        init_backbone: start from a released file of the backbone or the model.

    Returns:
        path of the last checkpoint.

    Raises:
        RecipeError: nothing to resume from, `out` already holds a run and `resume` is False, an optimiser or schedule that
            cannot be run, or a machine without what `trainer` asks for.
        FolderDataError, ModelError, BackboneError, CheckpointError: data, model or weights cannot be had.
    """
    check_optimization(recipe.optimizer, recipe.schedule)
    last = out / "last.ckpt"
    if resume and not last.is_file():
        raise RecipeError(f"nothing to resume: {last} does not exist; start without --resume")
    if not resume and last.is_file():
        raise RecipeError(f"{out} already holds a run; go on with --resume or choose another --out")
    lightning.seed_everything(recipe.seed, workers=True)
    if recipe.trainer.threads:
        torch.set_num_threads(recipe.trainer.threads)
    table = loaders(recipe)[2]  # errors of the data come before anything is built
    trainer = make_trainer(recipe, out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.yaml").write_text(yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False), encoding="utf-8")
    task = SegmentationTask(
        dataclasses.asdict(recipe), {"names": list(table.names), "palette": [list(c) for c in table.palette]}
    )
    task.model.to(memory_format=torch.channels_last)
    if init_from is not None:
        task.load_state_dict(read_checkpoint(init_from)["state_dict"])
    if init_backbone is not None:
        init_backbone_from(task.model, init_backbone)
    trainer.fit(
        task, datamodule=RecipeData(recipe, task.model.normalization["mean"]), ckpt_path=str(last) if resume else None
    )
    trainer.save_checkpoint(last)  # the callback saves at validations, which need not fall on the last step
    return last


def make_trainer(recipe: Recipe, out: Path) -> lightning.Trainer:
    """Lightning's trainer for a run in the folder `out`.

    Raises:
        RecipeError: the machine has not what `trainer` asks for.
    """
    settings = recipe.trainer
    try:
        return lightning.Trainer(
            max_steps=recipe.schedule.steps,
            precision=settings.precision,  # type: ignore[arg-type]
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            sync_batchnorm=settings.sync_batchnorm,
            gradient_clip_val=recipe.optimizer.clip_grad_norm or None,
            val_check_interval=min(settings.validate_every_steps, recipe.schedule.steps),
            check_val_every_n_epoch=None,
            use_distributed_sampler=False,  # EpochShuffle already splits each epoch
            # Bilinear resizing has no deterministic backward pass on CUDA, so a warning is the most that can be asked.
            deterministic="warn",
            logger=TensorBoardLogger(out, name="", version="tensorboard"),
            log_every_n_steps=10,
            callbacks=[
                # The last weights are the result. None is picked by its score: the validation rooms stay unseen.
                ModelCheckpoint(
                    out,
                    filename="step{step}",
                    auto_insert_metric_name=False,
                    save_last=True,
                    monitor="step",
                    mode="max",
                    save_top_k=settings.keep_checkpoints,
                ),
                LearningRateMonitor("step"),
                TQDMProgressBar(refresh_rate=10),
            ],
        )
    except MisconfigurationException as error:
        raise RecipeError(f"trainer: {' '.join(str(error).split())}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, loaded without executing pickled code.

    Raises:
        RecipeError: no such file, or not a checkpoint of `seg_models.train`.
    """
    if not path.is_file():
        raise RecipeError(f"no checkpoint at {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RecipeError(
            f"{path} is no readable checkpoint ({type(error).__name__}); expected one of seg_models.train"
        ) from error
    if not isinstance(content, dict) or not {"state_dict", "hyper_parameters"} <= content.keys():
        raise RecipeError(f"{path} holds no state_dict and hyper_parameters; expected a checkpoint of seg_models.train")
    return content


def load_task(path: Path) -> SegmentationTask:
    """The task of a checkpoint, weights loaded strictly, in eval mode."""
    content = read_checkpoint(path)
    task = SegmentationTask(**content["hyper_parameters"], pretrained=False)
    task.load_state_dict(content["state_dict"])
    return task.eval()


def released_recipe(path: Path | None) -> Recipe:
    """What --recipe names beside --released.

    Raises:
        RecipeError: none is named, or one that is not there or wrong.
    """
    if path is None:
        raise RecipeError("--released needs --recipe, which says what model the file is of")
    return read_recipe(path)


def released_model(recipe: Recipe, released: Path, num_classes: int) -> SegmentationModel:
    """A recipe's model with the weights of an authors' released file, in eval mode.

    Raises:
        RecipeError: a file that holds a backbone alone.
        CheckpointError: a file that does not hold exactly the model's weights.
    """
    model = model_from_recipe(recipe, num_classes, pretrained=False)
    report = load_released(model, released)
    if report.untouched:
        raise RecipeError(f"{released} has no {report.untouched[0]}; expected a whole model, found a backbone")
    return model.eval()


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    parser = argparse.ArgumentParser(prog="python -m seg_models.train", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="recipe, YAML")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/<name of the recipe>)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    start.add_argument("--init-from", type=Path, help="start from the weights of this checkpoint of seg_models.train")
    start.add_argument(
        "--init-backbone", type=Path, help="start from a released file: timm's of the backbone, or of the whole model"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. schedule.steps=100 data.batch_size=4")
    args = parser.parse_intermixed_args(arguments)
    try:
        recipe = read_recipe(args.config, args.overrides)
        last = train(recipe, args.out or Path("runs") / recipe.name, args.resume, args.init_from, args.init_backbone)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rank_zero_only(print)(f"done: {last}; next: python -m seg_models.evaluate --checkpoint {last}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
