"""Make a folder data set of ADE20K or Cityscapes as downloaded: `python -m seg_models.data.convert --help`.

    ADEChallengeData2016/                               cityscapes/
      images/training|validation/NAME.jpg                 leftImg8bit/train|val/CITY/NAME_leftImg8bit.png
      annotations/training|validation/NAME.png            gtFine/train|val/CITY/NAME_gtFine_labelIds.png
      objectInfo150.txt

ADE20K's masks say 0 for everything else and 1 to 150 for the classes: here 255 and 0 to 149. Of Cityscapes' label ids, the
19 that are scored become 0 to 18 (their train ids) and all others 255. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import colorsys
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import yaml
from tqdm import tqdm

from seg_models.data.folder import FolderDataError
from seg_models.data.image_files import ImageFileError, read_image, read_mask
from seg_models.losses import IGNORE
from seg_models.messages import one_line

ADE20K_CLASSES = 150
ADE20K_SPLITS = {"train": "training", "val": "validation"}

# Label id, name and colour of the classes that Cityscapes scores, in the order of their train ids.
CITYSCAPES = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
LARGEST_CITYSCAPES_ID = 33

# (split, image, mask, name in the folder data set)
Pair = tuple[str, Path, Path, str]


def ade20k_pairs(source: Path) -> Iterator[Pair]:
    """Images and masks of ADEChallengeData2016."""
    for split, folder in ADE20K_SPLITS.items():
        for image in sorted((source / "images" / folder).glob("*.jpg")):
            yield split, image, source / "annotations" / folder / f"{image.stem}.png", image.stem


def cityscapes_pairs(source: Path) -> Iterator[Pair]:
    """Images and fine masks of Cityscapes."""
    for split in ("train", "val"):
        for image in sorted((source / "leftImg8bit" / split).glob("*/*_leftImg8bit.png")):
            name = image.stem.removesuffix("_leftImg8bit")
            yield split, image, source / "gtFine" / split / image.parent.name / f"{name}_gtFine_labelIds.png", name


def ade20k_ids() -> np.ndarray:
    """Table from the masks' values to class ids, uint8 (151,)."""
    return np.array([IGNORE, *range(ADE20K_CLASSES)], np.uint8)


def cityscapes_ids() -> np.ndarray:
    """Table from label ids to train ids, uint8 (34,)."""
    table = np.full(LARGEST_CITYSCAPES_ID + 1, IGNORE, np.uint8)
    table[[label for label, _, _ in CITYSCAPES]] = np.arange(len(CITYSCAPES))
    return table


def ade20k_classes(source: Path) -> list[dict]:
    """The entries of classes.yaml: names as in objectInfo150.txt (its last column), colours all around the circle.

    Raises:
        FolderDataError: no such file, or one without 150 classes.
    """
    path = source / "objectInfo150.txt"
    if not path.is_file():
        raise FolderDataError(f"no {path}; expected the folder ADEChallengeData2016 as it is in its archive")
    try:
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise FolderDataError(f"{path} is no text in UTF-8: {error}") from error
    names = [line[-1].strip() for line in lines if line[0].strip().isdigit()]
    if len(names) != ADE20K_CLASSES:
        raise FolderDataError(f"{path} names {len(names)} classes; expected {ADE20K_CLASSES}")
    golden = (5**0.5 - 1) / 2  # turns of the hue that come back to no earlier one
    colours = [colorsys.hsv_to_rgb(i * golden % 1, 0.9 - 0.3 * (i % 2), 1 - 0.2 * (i % 3)) for i in range(len(names))]
    return [
        {"id": i, "name": name, "color": [round(255 * channel) for channel in colours[i]]}
        for i, name in enumerate(names)
    ]


def cityscapes_classes() -> list[dict]:
    """The entries of classes.yaml."""
    return [{"id": i, "name": name, "color": list(colour)} for i, (_, name, colour) in enumerate(CITYSCAPES)]


def read_pair(source: Path, image: Path, mask: Path) -> np.ndarray:
    """A mask's ids (H, W), once it and its image were found whole, of one size and inside `source`.

    Raises:
        FolderDataError: they are not.
    """
    for path in (image, mask):
        if not path.exists():
            raise FolderDataError(f"{path} is not there or damaged; expected ids")
        if not path.resolve().is_relative_to(source.resolve()):
            raise FolderDataError(
                f"{path} is a link out of {source}, to {path.resolve()}; expected the folder as unpacked"
            )
    try:
        size, ids = read_image(image).shape[:2], read_mask(mask)
    except ImageFileError as error:
        raise FolderDataError(f"{error}; get it again") from error
    if ids.shape != size:
        raise FolderDataError(f"{mask} is {ids.shape}, its image {size}; same size expected")
    return ids


def convert(kind: str, source: Path, target: Path, copy: bool = False) -> dict[str, int]:
    """Write the folder data set. One that was stopped is begun anew by the same call.

    Args:
        kind: "ade20k" or "cityscapes".
        source: the folder as downloaded and unpacked.
        target: the folder to make.
        copy: copy the images; otherwise they are links to those of `source`.

    Returns:
        images of each split.

    Raises:
        FolderDataError: `target` is finished already, or `source` lacks a split or a mask, a mask has an unknown value, or
            one of `read_pair`.
    """
    if (target / "classes.yaml").exists():
        raise FolderDataError(f"{target} already holds a data set; delete it or choose another folder")
    pairs = list(ade20k_pairs(source) if kind == "ade20k" else cityscapes_pairs(source))
    table = ade20k_ids() if kind == "ade20k" else cityscapes_ids()
    classes = ade20k_classes(source) if kind == "ade20k" else cityscapes_classes()
    counts = {split: sum(pair[0] == split for pair in pairs) for split in ("train", "val")}
    if not all(counts.values()):
        raise FolderDataError(
            f"{source} has {counts['train']} images to train on and {counts['val']} to validate on; "
            f"expected {kind} as unpacked (see python -m seg_models.data.convert --help)"
        )
    for split in counts:
        (target / "images" / split).mkdir(parents=True, exist_ok=True)
        (target / "labels" / split).mkdir(parents=True, exist_ok=True)
    for split, image, mask, name in tqdm(pairs, desc=kind, unit="image", disable=not sys.stderr.isatty()):
        labels = read_pair(source, image, mask)
        if labels.max() >= len(table):
            raise FolderDataError(f"{mask} holds the value {labels.max()}; expected 0 to {len(table) - 1}")
        written = target / "labels" / split / f"{name}.png"
        if not cv2.imwrite(str(written), table[labels]):
            raise FolderDataError(f"{written} cannot be written; is the disk full?")
        place = target / "images" / split / f"{name}{image.suffix}"
        place.unlink(missing_ok=True)
        if copy:
            shutil.copyfile(image, place)
        else:
            place.symlink_to(image.resolve())
    # Last, so that a folder with it is whole.
    content = {"ignore_index": IGNORE, "classes": classes}
    (target / "classes.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return counts


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    parser = argparse.ArgumentParser(
        prog="python -m seg_models.data.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=("ade20k", "cityscapes"))
    parser.add_argument("source", type=Path, help="the folder as downloaded and unpacked")
    parser.add_argument("target", type=Path, help="the folder to make, such as data/ade20k")
    parser.add_argument("--copy", action="store_true", help="copy the images instead of linking to them")
    args = parser.parse_args(arguments)
    try:
        counts = convert(args.kind, args.source, args.target, args.copy)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error, 1500)}", file=sys.stderr)
        return 2
    print(f"{args.target}: {counts['train']} images to train on, {counts['val']} to validate on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
