"""The tables of docs/papers.md: each row of the papers' tables with its command and what of it is reproduced.

They are made of the rows in `config/recipes/rows/` and of the counted configurations beside this file. `__main__` prints them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_models.papers.configurations import CONFIGURATIONS, Configuration
from seg_models.training.recipe import Recipe, RecipeError, recipe_from_dict
from seg_models.training.rows import Rows, read_rows

MARK = "<!-- What follows is written by `python -m seg_models.papers --write docs/papers.md`. -->"
TITLES = {
    "superpixel_transformer": "Superpixel Transformers",
    "segmenter": "Segmenter",
    "regproxy": "RegProxy",
    "segvit": "SegViT",
    "rsseg": "RSSeg",
}
DATA = {  # by `data.kind`, or the folder's name: title and number of classes
    "ade20k": ("ADE20K", 150),
    "cityscapes": ("Cityscapes", 19),
    "pascal_context_59": ("Pascal Context, 59", 59),
    "pascal_context_60": ("Pascal Context, 60", 60),
    "coco_stuff_10k": ("COCO-Stuff-10K", 171),
    "coco_stuff_164k": ("COCO-Stuff-164K", 171),
}
# Options that recipes give although they are the model's own, as their source has them.
SAME_AS_DEFAULT: dict[str, Any] = {"taps": [7, 15, 23], "token_head_layers": 5, "shrink_at": 8, "superpixel_stride": 32}


@dataclass(frozen=True)
class Command:
    """What else a paper shows, and the command for it.

    Attributes:
        place: table or figure.
        shows: what is in it.
        run: the command behind "python -m"; words in capitals stand for one's own: a checkpoint (CKPT), data set, image, class,
            and what `seg_models.evaluate --json` wrote (FIGURES).
    """

    place: str
    shows: str
    run: str


def data_of(recipe: Recipe) -> tuple[str, int]:
    """Title and number of classes of the data that a row is trained on."""
    kind = recipe.data.kind
    return DATA[Path(recipe.data.roots[0]).name if kind == "folder" else kind]


def counted(recipe: Recipe) -> Configuration | None:
    """The configuration of a printed table that a recipe's model is, None where no table prints its size or cost."""
    model = recipe.model

    def plain(options: dict[str, Any]) -> dict[str, Any]:
        listed = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
        return {key: value for key, value in listed.items() if SAME_AS_DEFAULT.get(key) != value}

    mine = (model.name, model.backbone, data_of(recipe)[1], tuple(model.image_size), plain(model.options))
    for one in CONFIGURATIONS:
        theirs = (one.architecture, one.backbone, one.classes, one.size, plain(one.options))
        if (one.params_m or one.gmac) and mine == theirs:
            return one
    return None


def size_text(configuration: Configuration | None) -> str:
    """Printed parameters and multiply-accumulates, and whether they are met here."""
    if configuration is None:
        return ""
    parts = []
    if configuration.params_m is not None:
        parts.append(f"{configuration.params_m} M")
    if configuration.gmac is not None:
        off = configuration.noted_percent
        parts.append(f"{configuration.gmac} G" + ("" if off is None else f" (here {off:+.1f} %)"))
    return ", ".join(parts)


def commands_of(path: Path, content: list[dict[str, str]]) -> list[Command]:
    """The `commands` of a file of rows.

    Raises:
        RecipeError: one without place, shows or run, or with anything else.
    """
    try:
        return [Command(**entry) for entry in content]
    except TypeError as error:
        raise RecipeError(f"{path}: commands need place, shows and run; {error}") from error


def section(rows: Rows) -> list[str]:
    """A paper's heading, table of trainings and table of other commands, as Markdown lines."""
    file = f"config/recipes/rows/{rows.path.name}"
    text = [
        f"## {TITLES[rows.path.stem]}",
        "",
        "```",
        f"python -m seg_models.train --config {file} --row ROW --init-backbone FILE",
        "```",
        "",
        "| ROW | mIoU as printed | size as printed | data | FILE |",
        "|---|---|---|---|---|",
    ]
    for name in rows.printed:
        recipe = recipe_from_dict(rows.content(name))
        start = rows.rows[name].get("start", recipe.model.backbone)
        text.append(
            f'| `"{name}"` | {rows.rows[name]["printed"]} | {size_text(counted(recipe))} | {data_of(recipe)[0]} | '
            f"{'none' if start == 'nothing' else start} |"
        )
    text += ["", "| in the paper | what is there | command |", "|---|---|---|"]
    for command in commands_of(rows.path, rows.commands):
        text.append(f"| {command.place} | {command.shows} | `python -m {command.run}` |")
    return [*text, ""]


def page(folder: Path) -> str:
    """All papers' sections.

    Args:
        folder: of the files of rows.

    Raises:
        RecipeError: a file that is not there or wrong.
    """
    lines = [line for stem in TITLES for line in section(read_rows(folder / f"{stem}.yaml"))]
    return "\n".join(lines)
