"""docs/papers.md: its tables are those of the rows, and every command in them runs, on miniature data."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from seg_models import evaluate, summary, train
from seg_models.analyse.command import main as analyse
from seg_models.data.labels import read_label_table
from seg_models.papers.__main__ import main
from seg_models.papers.configurations import CONFIGURATIONS
from seg_models.papers.page import MARK, commands_of, counted, page
from seg_models.training.recipe import RecipeError, read_recipe
from seg_models.training.rows import read_rows
from test.seg_models.data.test_folder import write_folder
from test.seg_models.miniature import miniature

ROOT = Path(__file__).parents[3]
ROWS = ROOT / "config/recipes/rows"
PAGE = (ROOT / "docs/papers.md").read_text(encoding="utf-8")
SECTIONS = {
    Path(match[1]).stem: match[0]
    for match in re.finditer(r"--config (\S+) --row ROW.*?(?=\n## |\Z)", PAGE.partition(MARK)[2], re.DOTALL)
}
# What a row of each paper that is small and has all of it trains, for the commands that ask for a checkpoint.
TRAINED = {
    "superpixel_transformer": "TI TIII ResNet-50",
    "segmenter": "T6 Seg-B-Mask/16 DeiT",
    "regproxy": "T4 RegProxy-S/16",
    "segvit": "T1 SegViT-B",
    "rsseg": "T4 T5 T6 T11 RSSeg-ViT-B",
}
# Sides in pixels that stand for the papers': images of 24 x 32 are cut in windows, too.
SMALL = {"--window": "32", "--stride": "24", "--short-side": "40", "--min-short-side": "36"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("data")
    write_folder(made, 4)
    write_folder(made, 1, "val")
    return made


@pytest.fixture(scope="module")
def checkpoints(folder, tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of each paper, of one step, made by the command of a row of its table."""
    made = {}
    for stem, row in TRAINED.items():
        path, out = ROWS / f"{stem}.yaml", tmp_path_factory.mktemp(stem) / "run"
        small = miniature(read_recipe(path, row=row), folder)
        assert train.main(["--config", str(path), "--row", row, "--out", str(out), *small]) == 0
        made[stem] = out / "last.ckpt"
    return made


def commands(stem: str) -> list[str]:
    return re.findall(r"\| `python -m (seg_models\.[^`]+)` \|", SECTIONS[stem])


def test_the_tables_are_the_rows():
    assert PAGE.partition(MARK)[2].strip() == page(ROWS).strip(), "python -m seg_models.papers --write docs/papers.md"
    for stem, text in SECTIONS.items():
        assert re.findall(r'^\| `"(.+?)"` \|', text, re.MULTILINE) == read_rows(ROWS / f"{stem}.yaml").printed
    assert set(SECTIONS) == {path.stem for path in ROWS.glob("*.yaml")}


@pytest.mark.parametrize("stem", SECTIONS)
def test_every_evaluation_of_the_page_runs(stem, folder, checkpoints, capsys):
    asked = [command for command in commands(stem) if command.startswith("seg_models.evaluate ")]
    assert asked
    for command in asked:
        words = command.replace("CKPT", str(checkpoints[stem])).replace("DATA", str(folder)).split()[1:]
        for option, value in SMALL.items():
            if option in words:
                words[words.index(option) + 1] = value
        words[words.index("--kind") + 1] = "folder"
        if "--leave-out" in words:
            words[words.index("--leave-out") + 1] = class_of(folder)
        assert evaluate.main(words) == 0, command
        assert "mIoU" in capsys.readouterr().out


@pytest.mark.parametrize("stem", SECTIONS)
def test_every_figure_of_the_page_is_drawn(stem, folder, checkpoints, tmp_path):
    asked = [command for command in commands(stem) if command.startswith("seg_models.analyse ")]
    assert asked
    image = next((folder / "images/val").iterdir())
    for command in asked:
        words = shlex.split(command)[1:]
        scored = tmp_path / "scored.json"
        if "FIGURES" in words:
            score = ["--checkpoint", str(checkpoints[stem]), "--data", str(folder), "--cost", "--json", str(scored)]
            assert evaluate.main(score) == 0
        names = {
            "FIGURES": str(scored),
            "CKPT": str(checkpoints[stem]),
            "DATA": str(folder),
            "IMAGE": str(image),
            "CLASS": class_of(folder),
        }
        words = [names.get(word, word) for word in words]
        few = {"--patch": 2, "--layers": 4, "--regions": 2}  # 0 or 1 is a place that the smallest grid has
        for option, count in few.items():
            if option in words:
                at = words.index(option) + 1
                words[at : at + count] = ["0" if option != "--layers" else "1"] * count
        if "--device" in words:
            words[words.index("--device") + 1] = "cpu"
        if "--largest-batch" in words:  # that a GPU's memory holds
            words.remove("--largest-batch")
        if "--configurations" in words:
            words += ["--runs", "1"]
        if "--row" in words:
            config, row = words[words.index("--config") + 1], words[words.index("--row") + 1]
            small = miniature(read_recipe(ROOT / config, row=row), folder)
            words = [str(ROOT / config) if word == config else word for word in words]
            words += ["--runs", "1", "--batch", "1", *small]
        for option, value in SMALL.items():
            if option in words:
                words[words.index(option) + 1] = value
        if "corruptions" in words:
            words += ["--severities", "1", "--noise-severities", "1"]
        if "--kind" in words:
            words[words.index("--kind") + 1] = "folder"
        out = tmp_path / "out"
        words[words.index("--out") + 1] = str(out)
        assert analyse(words) == 0, command
        figures = json.loads((out / "figures.json").read_text())
        assert figures
        pictures = figures.get("pictures", [])
        assert all((out / f"{name}.png").stat().st_size > 100 for name in pictures)


def class_of(folder: Path) -> str:
    return read_label_table(folder / "classes.yaml").names[0]


@pytest.mark.parametrize("stem", SECTIONS)
def test_every_count_of_the_page_names_configurations(stem):
    """Each of them is counted, and held against what is printed, in test_summary.py; here the shortest is run as written."""
    asked = [command for command in commands(stem) if command.startswith("seg_models.summary ")]
    assert asked
    found = {}
    for command in asked:
        text = shlex.split(command)[2]
        found[command] = [c for c in CONFIGURATIONS if text.lower() in c.name.lower()]
        assert found[command], command
    shortest = min(asked, key=lambda command: len(found[command]))
    if len(found[shortest]) <= 3:
        assert summary.main(shlex.split(shortest)[1:]) == 0
    tools = {command.split()[0] for command in commands(stem)}
    assert tools == {"seg_models.summary", "seg_models.evaluate", "seg_models.analyse"}


def test_rows_of_printed_sizes_are_found_by_their_model():
    def size(stem: str, row: str) -> str | None:
        found = counted(read_recipe(ROWS / f"{stem}.yaml", row=row))
        return None if found is None else found.source

    assert size("rsseg", "T5 Filter Norm") == "RSSeg, Table 5"
    assert size("segvit", "T1 SegViT-L") == "SegViT, Table 1"  # whose recipe gives the default taps
    assert size("regproxy", "T6 RegProxy-B/16") == "RegProxy, Table 6"
    assert size("regproxy", "T7 M = 9") is None


def test_the_command_prints_the_page_or_writes_it_behind_the_mark(tmp_path, capsys):
    assert main(["--rows", str(ROWS)]) == 0
    assert "## RSSeg" in capsys.readouterr().out
    target = tmp_path / "page.md"
    target.write_text(f"above\n{MARK}\nold\n")
    assert main(["--rows", str(ROWS), "--write", str(target)]) == 0
    text = target.read_text()
    assert text.startswith(f"above\n{MARK}\n\n## Superpixel")
    assert "\nold\n" not in text
    target.write_text("no mark\n")
    assert main(["--rows", str(ROWS), "--write", str(target)]) == 2
    assert "has no line" in capsys.readouterr().err
    assert main(["--rows", str(tmp_path)]) == 2
    with pytest.raises(RecipeError, match="commands need place, shows and run"):
        commands_of(target, [{"place": "Table 1"}])
