"""The comparison with other models: what is timed gives labels of the image's size, and the page gets what was measured."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest

from benchmarks import peers

SIZE = (64, 96)


@pytest.mark.parametrize(
    "contestant", [peers.ROBOTS, peers.LRASPP, peers.SEGFORMER, peers.STEPS[1]], ids=lambda c: c.kind
)
def test_a_contestant_ends_in_a_label_for_every_pixel(contestant, tmp_path):
    pytest.importorskip("openvino", reason="the engine that is timed is not installed")
    if contestant.kind == "segformer":
        pytest.importorskip("transformers", reason="SegFormer comes with the extra `peers`")
    small = replace(contestant, size=SIZE, classes=5)
    path = peers.export(small, tmp_path)
    written = path.stat().st_mtime_ns
    assert peers.export(small, tmp_path).stat().st_mtime_ns == written  # made once
    with ExitStack() as stack:
        result = peers.open_run(small, path, "OpenVINO f32", 2, stack)()
    labels = result if contestant.kind == "ours" else result[0][0]
    assert labels.shape == SIZE
    assert labels.dtype == "uint8"
    assert labels.max() < 5


def test_files_of_different_contestants_have_different_names():
    points = [c for axis in peers.growths().values() for _, c in axis]
    distinct = {(c.name, c.size, c.classes, str(c.options)) for c in (*points, *peers.CONTESTANTS)}
    assert len({c.file for c in (*points, *peers.CONTESTANTS)}) == len(distinct)


def test_ratios_are_of_the_same_round():
    times = {(c.file, e): [10.0, 20.0, 30.0, 40.0] for c in peers.CONTESTANTS for e in peers.ENGINES}
    for engine in peers.ENGINES:
        times[peers.ALONE.file, engine] = [5.0, 10.0, 15.0, 20.0]
        times[peers.SEGFORMER.file, engine] = [30.0, 60.0, 90.0, 120.0]
    lines = peers.table(times).splitlines()
    assert {line.count("|") for line in lines} == {11}
    rows = {line.split(" | ")[0].strip("| "): line for line in lines[2:]}
    assert "25.0 (12.5-37.5) | 2.00 | 1.00" in rows[peers.ROBOTS.name]
    assert " | 6.00 | 3.00 | " in rows[peers.SEGFORMER.name]


def test_a_page_gets_its_table_between_its_marks(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- peers -->\nold\n<!-- /peers -->\nafter\n")
    peers.write_between(page, "peers", "new\n")
    assert page.read_text() == "before\n<!-- peers -->\n\nnew\n\n<!-- /peers -->\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match=r"does not have the lines <!-- peers --> and <!-- /peers -->, once each"):
        peers.write_between(page, "peers", "new")
