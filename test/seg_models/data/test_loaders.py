"""Loaders of several processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import lightning
import pytest
import torch

from seg_models.data.folder import FolderDataError, FolderDataset
from seg_models.data.loaders import ProcessShare, RecipeData, loaders
from seg_models.losses import IGNORE
from seg_models.normalization import normalize
from seg_models.training.recipe import DataRecipe, ModelRecipe, Recipe, RecipeError
from test.seg_models.data.test_folder import write_folder


def recipe(folder: Path, batch_size: int = 2) -> Recipe:
    """Six images to train on and five to validate on, 24 x 32 pixels."""
    write_folder(folder, 6)
    write_folder(folder, 5, "val")
    data = DataRecipe([str(folder)], batch_size=batch_size, workers=0)
    return Recipe(model=ModelRecipe(image_size=[24, 32]), data=data)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_processes_together_validate_every_image_once_in_equally_many_steps(tmp_path, world):
    made = recipe(tmp_path)
    whole = FolderDataset([tmp_path], "val")
    steps, seen, labelled = set(), [], 0
    for rank in range(world):
        batches = list(loaders(made, rank, world)[1])
        steps.add(len(batches))
        for images, labels in batches:
            known = (labels != IGNORE).flatten(1).any(1)
            seen += [image for image, is_known in zip(images, known, strict=True) if is_known]
            labelled += int((labels != IGNORE).sum())
    assert len(steps) == 1
    assert len(seen) == len(whole)
    assert all(any(torch.equal(image, other) for other in seen) for image, _ in (whole[i] for i in range(len(whole))))
    assert labelled == sum(int((whole[i][1] != IGNORE).sum()) for i in range(len(whole)))


def test_what_fills_up_a_share_has_no_labels(tmp_path):
    recipe(tmp_path)
    share = ProcessShare(FolderDataset([tmp_path], "val"), rank=2, world=3)
    assert len(share) == 2
    assert (share[0][1] != IGNORE).any()
    assert (share[1][1] == IGNORE).all()


def test_training_crops_are_padded_with_the_models_mean_so_that_the_network_sees_zeros(tmp_path):
    made = recipe(tmp_path)
    normalization = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}  # ImageNet's
    data = RecipeData(
        dataclasses.replace(made, data=dataclasses.replace(made.data, scale=[0.5, 0.5])), normalization["mean"]
    )
    data.trainer = lightning.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    images, labels = next(iter(data.train_dataloader()))
    network_input = normalize(images, normalization)
    unlabelled = labels == IGNORE
    assert 0.7 < unlabelled.float().mean() < 0.8  # the image fills a quarter
    coloured = (network_input != 0).any(1) & unlabelled
    assert (coloured.flatten(1).sum(1) <= 1).all()  # the image's own unlabelled corner, see write_folder


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("split", [0, 1], ids=["train", "val"])
def test_an_error_in_a_loader_process_is_its_one_line(tmp_path, workers, split):
    made = recipe(tmp_path)
    made = dataclasses.replace(made, data=dataclasses.replace(made.data, workers=workers))
    broken = tmp_path / ("images/train/0003.png", "images/val/0003.png")[split]
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(FolderDataError) as error:
        list(loaders(made)[split])
    assert str(error.value) == (
        f"{broken} cannot be decoded as an image, it is a PNG that is cut off; replace it or delete the pair"
    )


def test_more_processes_than_the_training_images_fill_are_refused(tmp_path):
    made = recipe(tmp_path, batch_size=4)
    loaders(made)
    with pytest.raises(RecipeError, match=r"6 training images do not fill a batch of 4 on 2 process\(es\)"):
        loaders(made, 0, 2)
    smaller = dataclasses.replace(made, data=dataclasses.replace(made.data, batch_size=3))
    assert len(loaders(smaller, 1, 2)[0]) == 1


def test_training_crops_may_be_smaller_than_the_networks_input_and_other_folders_validate(tmp_path):
    made = recipe(tmp_path / "a")
    other = write_folder(tmp_path / "b", 3, "val")
    data = dataclasses.replace(made.data, crop=[16, 24], val_roots=[str(other)])
    train, val, _ = loaders(dataclasses.replace(made, data=data))
    assert next(iter(train))[0].shape == (2, 3, 16, 24)
    assert next(iter(val))[0].shape == (2, 3, 24, 32)
    assert len(val.dataset) == 3
    with pytest.raises(RecipeError, match=r"data.crop is \[16\]; expected \[height, width\]"):
        loaders(dataclasses.replace(made, data=dataclasses.replace(made.data, crop=[16])))


def test_listed_images_are_left_out_of_training_alone(tmp_path):
    made = recipe(tmp_path)
    names = [path.stem for path in FolderDataset([tmp_path], "train").images]
    (tmp_path / "speckled.txt").write_text(f"# speckled\n{names[0]}\n\n{names[2]}  # a window\n")
    data = dataclasses.replace(made.data, exclude=str(tmp_path / "speckled.txt"))
    train, val, _ = loaders(dataclasses.replace(made, data=data))
    assert [path.stem for path in train.dataset.data.images] == [n for i, n in enumerate(names) if i not in (0, 2)]
    assert len(val.dataset) == 5
    (tmp_path / "speckled.txt").write_text("typo\n")
    with pytest.raises(FolderDataError, match="1 of 1 excluded images are not in split 'train'; the first is 'typo'"):
        loaders(dataclasses.replace(made, data=data))
    with pytest.raises(FolderDataError, match="no list of images at"):
        loaders(dataclasses.replace(made, data=dataclasses.replace(data, exclude=str(tmp_path / "none.txt"))))


def test_a_subset_is_drawn_once_by_the_seed_and_lies_in_every_larger_one(tmp_path):
    made = recipe(tmp_path, batch_size=1)

    def chosen(count: int, seed: int = 0) -> set[str]:
        asked = dataclasses.replace(made, seed=seed, data=dataclasses.replace(made.data, subset=count))
        loader, val, _ = loaders(asked)
        assert len(loader.dataset) == count
        assert len(val.dataset) == 5  # what is validated on stays whole
        return {image.stem for image in loader.dataset.data.images}

    assert chosen(2) < chosen(4) == chosen(4)
    assert len({frozenset(chosen(2, seed)) for seed in range(8)}) > 1
    with pytest.raises(RecipeError, match="subset is 7; there are 6 training images"):
        chosen(7)
