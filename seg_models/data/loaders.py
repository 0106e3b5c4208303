"""From a recipe to the loaders of its training and validation split."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.context
import os
import select
import sys
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seg_models.data.camera import CameraAugmentation
from seg_models.data.class_pixels import balanced_draw, class_pixels, class_weights
from seg_models.data.folder import (
    EpochShuffle,
    FolderDataset,
    FolderLoader,
    ResumableLoader,
    Transform,
    read_names,
)
from seg_models.data.labels import LabelTable
from seg_models.data.transforms import GREY, RandomScaleCropFlip, Resize
from seg_models.losses import IGNORE
from seg_models.training.recipe import Recipe, RecipeError


def augmentation(recipe: Recipe, mean: Sequence[float] = GREY) -> RandomScaleCropFlip:
    """The recipe's augmentation of the training split, for a model whose input's mean colour (RGB, 0..255) is `mean`.

    Raises RecipeError for a number outside its range.
    """
    crop = recipe.data.crop or recipe.model.image_size
    if len(crop) != 2 or min(crop) < 1:
        raise RecipeError(f"data.crop is {crop}; expected [height, width] in pixels, or [] for the model's image_size")
    try:
        return RandomScaleCropFlip(
            (crop[0], crop[1]),
            tuple(recipe.data.scale),
            resize=tuple(recipe.data.resize) or None,
            max_class_share=recipe.data.max_class_share,
            photometric_distortion=recipe.data.photometric_distortion,
            auto_augment=recipe.data.auto_augment,
            padding=tuple(mean),
            recolour=recipe.data.recolour,
            camera=CameraAugmentation(**dataclasses.asdict(recipe.data.camera)),
        )
    except ValueError as error:
        raise RecipeError(f"data: {error}") from error


def loaders(
    recipe: Recipe, rank: int = 0, world: int = 1, mean: Sequence[float] = GREY
) -> tuple[DataLoader, DataLoader, LabelTable]:
    """Training and validation loaders of a process, and the label table.

    Args:
        recipe: whose data are loaded.
        rank, world: this process and the number of processes; each has its share of both splits.
        mean: of the model's normalisation, RGB in 0..255; what training crops are padded with.

    Raises:
        FolderDataError, LabelTableError: the recipe's data is not there or not as it should be.
        RecipeError: the recipe's augmentation is not as it should be, or its data do not fill a batch.
    """
    data, size = recipe.data, (recipe.model.image_size[0], recipe.model.image_size[1])
    train = training_split(recipe, augmentation(recipe, mean))
    val = FolderDataset(data.val_roots or data.roots, data.val_split, Resize(size), kind=data.kind)
    if val.table.names != train.table.names:
        raise RecipeError(f"data.val_roots have other classes than data.roots: {val.table.names}, {train.table.names}")
    step = data.batch_size * recipe.trainer.accumulate  # images of a process
    if len(train) < step * world:
        batches = f"{recipe.trainer.accumulate} batches" if recipe.trainer.accumulate > 1 else "a batch"
        raise RecipeError(
            f"{len(train)} training images do not fill {batches} of {data.batch_size} on {world} process(es)"
        )
    chances = None
    if data.sampling == "balanced":
        chances = balanced_draw(class_pixels(train, len(train.table.names)), data.balance_temperature)
    # An epoch is of whole steps, so that each is made of as many gradients.
    sampler = EpochShuffle(len(train), recipe.seed, rank, world, chances, step)
    common: dict[str, Any] = {"num_workers": data.workers, "worker_init_fn": partial(begin_worker, os.getpid())}
    if data.workers:
        common["multiprocessing_context"] = worker_processes()
    return (
        ResumableLoader(train, sampler, data.batch_size, drop_last=True, **common),
        FolderLoader(ProcessShare(val, rank, world), data.batch_size, **common),
        train.table,
    )


def training_split(recipe: Recipe, transform: Transform | None = None) -> FolderDataset:
    """The images that a recipe trains on, less those it leaves out.

    Raises:
        FolderDataError, LabelTableError: the recipe's data is not there or not as it should be.
        RecipeError: a subset of more images than there are.
    """
    data = recipe.data
    excluded = read_names(data.exclude) if data.exclude else frozenset()
    train = FolderDataset(data.roots, data.train_split, transform, recipe.seed, excluded, data.kind)
    if data.subset > len(train):
        raise RecipeError(f"data.subset is {data.subset}; there are {len(train)} training images")
    if data.subset:
        # One order for a seed: a smaller subset lies in a larger one, so that sizes can be compared.
        train.keep(sorted(np.random.default_rng(recipe.seed).permutation(len(train))[: data.subset].tolist()))
    return train


def loss_weights(recipe: Recipe) -> Tensor | None:
    """Weights of the classes in the loss, float32 (K,), as the recipe asks for them; None for none.

    Raises:
        FolderDataError: a mask of the training split that cannot be read.
    """
    data = recipe.data
    if data.class_weights == "none":
        return None
    train = training_split(recipe)
    return torch.from_numpy(class_weights(class_pixels(train, len(train.table.names)), data.class_weights))


class ProcessShare(Dataset[tuple[Tensor, Tensor]]):
    """A process's share of a validation split: every `world`-th image from `rank` on.

    Shares are of one size, since processes that make different numbers of steps would wait for each other. Where images do
    not suffice, the last one stands in without labels, which counts nothing.
    """

    def __init__(self, data: FolderDataset, rank: int, world: int) -> None:
        self.data, self.rank, self.world = data, rank, world

    def __len__(self) -> int:
        return -(-len(self.data) // self.world)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """uint8 image (3, H, W) and int64 labels (H, W)."""
        place = index * self.world + self.rank
        if place < len(self.data):
            return self.data[place]
        image, labels = self.data[len(self.data) - 1]
        return image, torch.full_like(labels, IGNORE)


def worker_processes() -> multiprocessing.context.BaseContext:
    """Loader workers are forked by a server without threads of its own.

    A fork of the training process itself, with the threads of gloo, of autograd and of OpenCV in it, may inherit a lock that
    nobody will ever open: then a worker hangs, and with it every process of the training.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # so that a worker starts in milliseconds
    return context


def begin_worker(training: int, worker: int) -> None:
    """What each loader worker does first.

    It gives up OpenCV's own threads, which in several processes would fight the model for the cores. And it sees to it that it
    ends with the training: workers are the fork server's children, so nobody tells them when the training is killed, and each
    would keep its memory for ever.

    Args:
        training: process id of the training.
        worker: number of this worker.
    """
    cv2.setNumThreads(0)
    threading.Thread(target=end_with, args=(training,), daemon=True).start()


def end_with(process: int) -> None:
    """Wait until a process has ended, and then end this one at once. Known on Linux alone; elsewhere nothing happens."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        # Not by asking for its number now and then: that is there until somebody has asked how it ended, and may come again.
        select.select([os.pidfd_open(process)], [], [])
    os._exit(1)


class RecipeData(lightning.LightningDataModule):
    """Makes the loaders once Lightning knows how many processes there are.

    Args:
        recipe: whose data are loaded.
        mean: of the model's normalisation, see `loaders`.
    """

    def __init__(self, recipe: Recipe, mean: Sequence[float]) -> None:
        super().__init__()
        self.recipe, self.mean = recipe, mean

    def train_dataloader(self) -> DataLoader:
        """Augmented training split, this process's share."""
        assert self.trainer is not None
        return loaders(self.recipe, self.trainer.global_rank, self.trainer.world_size, self.mean)[0]

    def val_dataloader(self) -> DataLoader:
        """Validation split at the network's size, this process's share."""
        assert self.trainer is not None
        return loaders(self.recipe, self.trainer.global_rank, self.trainer.world_size, self.mean)[1]
