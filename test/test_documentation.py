"""What the documentation names exists: files in architecture.md and CONTRIBUTING.md, links and make targets everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks/README.md"])
MAPS = [ROOT / "docs/architecture.md", ROOT / "CONTRIBUTING.md"]
TOP = ("bags", "benchmarks", "config", "docs", "launch", "models", "seg_models", "seg_onnx", "seg_perception", "test")
PATH = re.compile(
    rf"(?<![\w/.])(?:{'|'.join(TOP)})/[\w./-]*|(?<![\w/.-])(?:pyproject\.toml|setup\.py|constraints\.txt)"
)


def paths_named(text: str) -> set[str]:
    """Every path from the root that a text names, full stops at its end left out."""
    return {match.rstrip(".") for match in PATH.findall(text)}


@pytest.mark.parametrize("page", MAPS, ids=lambda page: page.name)
def test_every_file_that_the_maps_name_exists(page):
    named = paths_named(page.read_text(encoding="utf-8"))
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_a_path_that_no_longer_exists_is_found():
    text = "see `seg_models/layers/gone.py`, <br>test/nothing.py. `images/` and seg_models/ops/"
    assert paths_named(text) == {"seg_models/layers/gone.py", "test/nothing.py", "seg_models/ops/"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if heading:
            assert heading in headings(linked.read_text(encoding="utf-8")), f"{page.name} links to {target}"


def headings(text: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_recipes_that_pages_name_exist(page):
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = "\n".join(re.findall(r"```\n(.*?)```", text, re.DOTALL)) + "\n".join(re.findall(r"`(make [^`]+)`", text))
    assert set(re.findall(r"^make ([a-z-]+)", commands, re.MULTILINE)) <= targets
    for module in re.findall(r"python -m ((?:seg_models|seg_perception|benchmarks)[\w.]*)", text):
        file = ROOT / module.replace(".", "/")
        assert file.with_suffix(".py").is_file() or (file / "__main__.py").is_file(), f"{page.name}: {module}"
    for file in re.findall(r"config/[\w/.]+\.(?:yaml|xml)", text):
        assert (ROOT / file).is_file(), f"{page.name}: {file}"
