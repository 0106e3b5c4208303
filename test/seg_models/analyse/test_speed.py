"""Rates of the published configurations, and the largest batch that fits."""

from __future__ import annotations

import json

import pytest

from seg_models.analyse.command import main
from seg_models.analyse.of_speed import largest_fitting
from seg_models.papers.configurations import CONFIGURATIONS


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 64, 100, 127, 128, 1000])
def test_the_largest_batch_is_found_in_few_trials(limit):
    tried = []

    def fits(count: int) -> bool:
        tried.append(count)
        return count <= limit

    assert largest_fitting(fits, 128) == min(limit, 128)
    assert len(tried) <= 16
    assert max(tried) <= 128


def test_published_configurations_are_measured_beside_what_is_printed(tmp_path, capsys):
    words = ["speed", "--configurations", "RegProxy-Ti/16, ADE20K", "--runs", "1", "--out", str(tmp_path)]
    assert main(words) == 0
    assert "38.9" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "figures.json").read_text())["configurations"]
    assert row["printed_images_per_second"] == 38.9
    assert row["images_per_second"] == pytest.approx(1000 / row["ms"]["total"])
    assert "largest_batch" not in row


def test_printed_rates_are_those_of_the_tables():
    printed = {one.name: one.fps for one in CONFIGURATIONS if one.fps is not None}
    assert sorted(printed.values()) == [3.6, 6.6, 12.7, 15.3, 20.1, 28.5, 32.1, 38.9, 40.8, 450]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--configurations", "unicorn"], "no configuration has 'unicorn' in its name"),
        (["--configurations", "RegProxy", "--largest-batch"], "--largest-batch fills a GPU's memory; --device is cpu"),
        (["--configurations", "RegProxy", "--runs", "0"], "expected at least 1"),
        (["--configurations", "RegProxy", "--device", "cuda:99"], "--device cuda:99 cannot be used"),
    ],
)
def test_what_cannot_be_measured_is_said(options, message, tmp_path, capsys):
    assert main(["speed", *options, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
