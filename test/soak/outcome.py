"""What came of a soak, and whether it is good."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from test.seg_perception.node_diagnostics import Figures
from test.soak.checks import MaskChecks
from test.soak.memory import MemorySampler, Slope

MORE_THREADS, MORE_FILES = 2, 3  # at the end than at the start; ROS's log may take another file, a library a thread
BAD_WORDS = ("Traceback", "unexpected", "terminate called", "Segmentation fault")


@dataclass(frozen=True)
class Settings:
    """Of a run.

    Attributes:
        minutes: of random faults; that every fault happens once comes before.
        seed: of everything that is drawn.
        rate_hz: images a second of each camera.
        cameras: their names.
        is_tiny: whether the tiny models of the tests serve, not the shipped one.
        burners: processes that may take the processor.
        patience_s: longest time without masks where there should be some.
    """

    minutes: float
    seed: int
    rate_hz: float
    cameras: tuple[str, ...]
    is_tiny: bool
    burners: int
    patience_s: float


@dataclass(frozen=True)
class Endured:
    """An episode that is over; seconds since the run began.

    Attributes:
        name: of its faults.
        begin_s, end_s: from the first fault to the last repair.
        recovery_s: from then until every camera had a mask of an image sent since; None: not within the patience.
        gap_s: longest time without a mask meanwhile, of the cameras that it does not concern; None where it does all.
        is_rehearsal: one of the first round, in which every fault comes once, shortly.
    """

    name: str
    begin_s: float
    end_s: float
    recovery_s: float | None
    gap_s: float | None
    is_rehearsal: bool


@dataclass(frozen=True)
class Verdict:
    """One thing that was to hold."""

    is_good: bool
    what: str
    seen: str


@dataclass
class Outcome:
    """All of a run.

    Attributes:
        settings: that it had.
        machine: what it ran on, and its load.
        began_s, random_s: monotonic, of the run and of its random part; memory is sampled from there on.
        checks: of every camera.
        endured: episodes in their order.
        memory: samples; None where the node did not live to it.
        before, after: the node's figures in calm, at both ends of the random part.
        diagnostics_gap_s: longest time between two messages on /diagnostics.
        notes: what services answered otherwise than they should.
        log: the node's lines.
        exit_code: of the node, asked to end by SIGINT; None where it had ended before.
    """

    settings: Settings
    machine: dict[str, str]
    began_s: float
    random_s: float
    checks: dict[str, MaskChecks]
    endured: list[Endured]
    memory: MemorySampler | None
    before: Figures | None
    after: Figures | None
    diagnostics_gap_s: float
    notes: list[str]
    log: list[str]
    exit_code: int | None

    @property
    def slope(self) -> Slope | None:
        """Of the node's memory; None where there are too few samples."""
        try:
            return None if self.memory is None else self.memory.slope()
        except ValueError:
            return None

    def verdicts(self) -> list[Verdict]:
        """Everything that was to hold."""
        return [*self._of_masks(), *self._of_times(), *self._of_process()]

    def _of_masks(self) -> list[Verdict]:
        checks = self.checks.values()
        violations: Counter[str] = sum((each.violations for each in checks), Counter())
        masks, images = sum(len(each.arrived_s) for each in checks), sum(each.sent_count for each in checks)
        lowest = min((each.lowest_agreement for each in checks), default=0.0)
        return [
            Verdict(
                masks > 0 and violations["of no image"] == 0,
                "every mask has the header of an image of its camera",
                f"{masks} masks of {images} images; of no image: {violations['of no image']}",
            ),
            Verdict(violations["twice"] == 0, "no image has two masks", f"twice: {violations['twice']}"),
            Verdict(
                violations["out of order"] == 0,
                "masks come in the order of their images",
                f"out of order: {violations['out of order']}",
            ),
            Verdict(
                not violations["of another size"] and not violations["of another picture"],
                "every mask has the size of its image and shows what that shows",
                f"of another size: {violations['of another size']}, of another picture: "
                f"{violations['of another picture']}; lowest agreement {lowest:.2f}",
            ),
            Verdict(
                violations["of a broken image"] == 0,
                "no broken image has a mask",
                f"masks of broken images: {violations['of a broken image']}",
            ),
        ]

    def _of_times(self) -> list[Verdict]:
        patience_s = self.settings.patience_s
        missing = [each.name for each in self.endured if each.recovery_s is None]
        slowest = max((each.recovery_s or 0.0 for each in self.endured), default=0.0)
        gap_s = max((each.gap_s or 0.0 for each in self.endured), default=0.0)
        return [
            Verdict(
                bool(self.endured) and not missing,
                f"after every fault every camera has masks again within {patience_s:g} s",
                f"{len(self.endured)} episodes, slowest {slowest:.2f} s"
                + (f"; never: {', '.join(missing)}" if missing else ""),
            ),
            Verdict(
                gap_s <= patience_s,
                f"a camera that a fault does not concern is never without masks for {patience_s:g} s",
                f"longest {gap_s:.2f} s",
            ),
            Verdict(
                self.diagnostics_gap_s <= patience_s,
                f"diagnostics never fail to come for {patience_s:g} s",
                f"longest {self.diagnostics_gap_s:.2f} s",
            ),
        ]

    def _of_process(self) -> list[Verdict]:
        slope = self.slope
        bad = [line for line in self.log if any(word in line for word in BAD_WORDS)]
        verdicts = [
            Verdict(not self.notes, "services answer as they should", "; ".join(self.notes[:5]) or "all did"),
            Verdict(not bad, "nothing unforeseen in the log", bad[0] if bad else f"{len(self.log)} lines"),
            Verdict(
                self.exit_code == 0,
                "the node lives to the end, and ends with code 0 when asked",
                "it ended by itself" if self.exit_code is None else f"code {self.exit_code}",
            ),
            Verdict(
                slope is not None and not slope.grows,
                "memory does not grow",
                "too few samples" if slope is None else str(slope),
            ),
        ]
        if self.before is None or self.after is None:
            return [*verdicts, Verdict(False, "threads and files stay as they were", "not measured")]
        stays = (
            self.after.threads <= self.before.threads + MORE_THREADS
            and self.after.files <= self.before.files + MORE_FILES
        )
        seen = (
            f"threads {self.before.threads} and {self.after.threads}, files {self.before.files} and {self.after.files}, "
            f"memory {self.before.memory_mb:.0f} and {self.after.memory_mb:.0f} MB"
        )
        return [*verdicts, Verdict(stays, "threads and files stay as they were", seen)]
