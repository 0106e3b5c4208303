"""What a report says is what happened; each thing that does not hold fails its own verdict."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from seg_perception.cdr import Header
from test.seg_perception.node_diagnostics import Figures
from test.soak.checks import MaskChecks, Sent
from test.soak.outcome import Endured, Outcome, Settings
from test.soak.report import markdown, write_report

LABELS = np.zeros((3, 4), np.uint8)


class Samples:
    """Of memory, as a sampler would have them: an hour, `leak` MB a minute."""

    def __init__(self, leak: float) -> None:
        from test.soak.memory import MemorySampler

        rng = np.random.default_rng(0)
        self.at_s = list(1000.0 + np.arange(0.0, 3600.0, 10.0))
        self.figures = [
            Figures(200 + leak * s / 60 + float(rng.normal()), 20, 30) for s in np.arange(0.0, 3600.0, 10.0)
        ]
        self.slope = lambda: MemorySampler.slope(self)  # type: ignore[arg-type]


def a_camera(name: str) -> MaskChecks:
    checks = MaskChecks(name, 0.9, lambda _: None)
    for number in range(1, 1000):
        at_s = 1000.0 + 0.1 * number
        header = Header(5, number, name.encode())
        checks.sent(header, Sent(1, number, at_s, (3, 4), LABELS))
        if number % 3:
            checks.arrived(header, LABELS, at_s + 0.02)
    return checks


@pytest.fixture
def outcome() -> Outcome:
    """Of a run in which all went well."""
    endured = [
        Endured("camera stops", 5.0, 6.0, 0.25, 0.1, True),
        Endured("camera stops", 15.0, 16.0, 0.75, 0.2, False),
        Endured("deactivated", 25.0, 26.0, 0.5, None, False),
        Endured("camera stops + processor taken", 35.0, 36.0, 1.5, 0.3, False),
    ]
    settings = Settings(60.0, 7, 10.0, ("front", "rear"), True, 2, 10.0)
    checks = {name: a_camera(name) for name in settings.cameras}
    figures = Figures(200.0, 20, 30)
    return Outcome(
        settings, {"processor": "a | b"}, 1000.0, 1000.0, checks, endured, Samples(0.0), figures, figures, 1.0, [],
        ["all is well"], 0,
    )  # fmt: skip


def failed(outcome: Outcome) -> list[str]:
    return [verdict.what for verdict in outcome.verdicts() if not verdict.is_good]


def test_all_is_good_where_all_went_well(outcome):
    assert failed(outcome) == []
    assert len(outcome.verdicts()) >= 13


def second_mask(outcome: Outcome) -> None:
    outcome.checks["front"].arrived(Header(5, 998, b"front"), LABELS, 1101.0)


def foreign_mask(outcome: Outcome) -> None:
    outcome.checks["front"].arrived(Header(5, 998, b"rear"), LABELS, 1101.0)


def late_mask(outcome: Outcome) -> None:
    outcome.checks["rear"].arrived(Header(5, 996, b"rear"), LABELS, 1101.0)


def wrong_picture(outcome: Outcome) -> None:
    outcome.checks["rear"].arrived(Header(5, 999, b"rear"), LABELS + 1, 1101.0)


def leak(outcome: Outcome) -> None:
    outcome.memory = Samples(0.5)


def no_samples(outcome: Outcome) -> None:
    outcome.memory = None


def thread_left(outcome: Outcome) -> None:
    outcome.after = replace(outcome.before, threads=23)


def file_left(outcome: Outcome) -> None:
    outcome.after = replace(outcome.before, files=34)


def never_recovered(outcome: Outcome) -> None:
    outcome.endured.append(Endured("camera restarts", 40.0, 41.0, None, 0.1, False))


def starved(outcome: Outcome) -> None:
    outcome.endured.append(Endured("camera restarts", 40.0, 61.0, 0.1, 20.0, False))


def silent(outcome: Outcome) -> None:
    outcome.diagnostics_gap_s = 11.0


def traceback(outcome: Outcome) -> None:
    outcome.log.append("Traceback (most recent call last):")


def refused(outcome: Outcome) -> None:
    outcome.notes.append("deactivate was refused")


def crash(outcome: Outcome) -> None:
    outcome.exit_code = -11


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (second_mask, "no image has two masks"),
        (foreign_mask, "header of an image"),
        (late_mask, "order of their images"),
        (wrong_picture, "shows what that shows"),
        (leak, "memory does not grow"),
        (no_samples, "memory does not grow"),
        (thread_left, "threads and files"),
        (file_left, "threads and files"),
        (never_recovered, "after every fault"),
        (starved, "does not concern"),
        (silent, "diagnostics never fail"),
        (traceback, "nothing unforeseen"),
        (refused, "services answer"),
        (crash, "lives to the end"),
    ],
)
def test_what_does_not_hold_fails_its_own_verdict_alone(outcome, spoil, what):
    spoil(outcome)
    (only,) = failed(outcome)
    assert what in only
    assert "| **NO** |" in markdown(outcome)


def test_a_run_that_the_node_does_not_survive_fails_and_is_reported_all_the_same(outcome, tmp_path):
    outcome.exit_code = outcome.before = outcome.after = outcome.memory = None
    outcome.endured.clear()
    outcome.checks = {"front": MaskChecks("front", 0.9, print)}
    assert len(failed(outcome)) == 5
    assert write_report(outcome, tmp_path).is_file()


def test_the_report_holds_the_figures_and_plots_that_open(outcome, tmp_path):
    text = write_report(outcome, tmp_path).read_text()
    assert "Seed 7, 60 minutes" in text
    assert "processor: a | b" in text
    assert "| camera stops | 2 | 0.50 | 0.75 | 0.15 | 0.20 |" in text
    assert "| deactivated | 1 | 0.50 | 0.50 | | |" in text
    assert "| two at a time | 1 | 1.50 | 1.50 | | |" in text
    assert "| front | 999 | 666 | 6.7 | 20.0 | 20.0 |" in text
    for name in ("memory", "masks_front", "masks_rear", "recovery"):
        assert f"({name}.svg)" in text
        picture = ElementTree.parse(tmp_path / f"{name}.svg").getroot()
        assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    dots = ElementTree.parse(tmp_path / "recovery.svg").getroot().findall("{http://www.w3.org/2000/svg}circle")
    assert len(dots) == len(outcome.endured)
    facts = json.loads((tmp_path / "soak.json").read_text())
    assert facts["settings"]["seed"] == 7
    assert facts["violations"] == {"front": {}, "rear": {}}
    assert len(facts["episodes"]) == 4
    assert facts["memory_mb"][6] == [60.0, round(outcome.memory.figures[6].memory_mb, 2)]
    assert (tmp_path / "node.log").read_text() == "all is well\n"
