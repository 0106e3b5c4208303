"""The benchmark of heads: trained, timed through the node's own way of inference, written down once."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import heads
from benchmarks.architectures import Contestant, Scale
from test.seg_models.data.test_folder import write_folder


def test_heads_are_trained_timed_and_drawn_and_a_run_is_not_made_again(tmp_path, monkeypatch, capsys):
    data = write_folder(tmp_path / "rooms", 2)
    write_folder(data, 2, "val")
    contestants = (Contestant("plain", "conv_linear", "test_efficientnet"),)
    monkeypatch.setattr(heads, "SCALE", Scale((64, 96), 2, 2, 1e-3, contestants))
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), "--steps", "2", "--seeds", "1", "--rounds", "1"]
    assert heads.main(arguments) == 0
    log = tmp_path / "out/runs.jsonl"
    first = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(r["name"], r["seed"], r["steps"]) for r in first] == [("plain", 0, 2)]
    assert "| plain |" in capsys.readouterr().out
    drawn = ElementTree.parse(tmp_path / "out/plot.svg").getroot()
    assert len(drawn.findall("{http://www.w3.org/2000/svg}circle")) == 1
    assert heads.main(arguments) == 0
    assert [json.loads(line) for line in log.read_text().splitlines()] == first


def test_a_head_without_a_run_is_said_to_have_none_and_not_drawn():
    times = {"linear": [10.0, 11.0], "other": [5.0, 5.5]}
    runs = [{"name": "linear", "miou": 0.3}, {"name": "linear", "miou": 0.32}]
    lines = heads.table(runs, times).splitlines()
    assert lines[2].startswith("| other | not run | 5.2 (5.0-5.5) | 0.50 (0.50-0.50) | 0 |")
    assert "| linear | 31.0 (30.0-32.0) |" in lines[3]
    assert "other" not in heads.plot(runs, times)
    assert heads.plot([], times) == ""


def test_unknown_heads_are_refused(capsys):
    with pytest.raises(SystemExit):
        heads.main(["--only", "lraspp"])
    assert "no head lraspp; there are: linear, LR-ASPP" in capsys.readouterr().err
