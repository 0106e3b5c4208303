"""What one camera's images and masks tell of trouble: their stamps, and whether they look as usual. No ROS in here."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import numpy as np

from seg_perception.cdr import CdrError, read_header
from seg_perception.plausibility import Plausibility
from seg_perception.stamp_check import StampCheck, StampProblems

CAMERA_INFO_S = 5.0  # that images come without a calibration before that is told; some drivers publish it once a second


class CameraHealth:
    """Collects from the camera's callbacks and from the worker, and is asked by the diagnostics.

    Args:
        now: seconds that never go back.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._first_image_s: float | None = None
        self._camera_info = False
        self._stamps = StampCheck()
        self._told = StampProblems()
        self._masks = Plausibility()
        self._made_with: object = None

    def arrived(self, serialized: bytes, now_ns: int) -> None:
        """An image came.

        Args:
            serialized: the message.
            now_ns: the node's clock; 0: it has no time yet.
        """
        if self._first_image_s is None:
            self._first_image_s = self._now()
        try:
            stamp_ns = read_header(serialized, "image").stamp_ns
        except CdrError:
            return  # whoever decodes it says so
        self._stamps.add(stamp_ns, now_ns)

    def camera_info_came(self) -> None:
        """The camera's calibration came."""
        self._camera_info = True

    def missing_camera_info(self) -> str:
        """For how long images come without a calibration; empty while that is not long."""
        silence_s = 0.0 if self._first_image_s is None else self._now() - self._first_image_s
        return (
            f"for {silence_s:.0f} s, although images come"
            if silence_s > CAMERA_INFO_S and not self._camera_info
            else ""
        )

    def wants(self, made_with: object) -> bool:
        """Whether the next frame's masks should be looked at; `made_with`: model and classes, which begin anew as they change."""
        if made_with is not self._made_with:
            self._made_with = made_with
            self._masks.reset()
        return self._masks.due

    def look(self, rgb: np.ndarray, labels: np.ndarray, confidence: np.ndarray | None) -> None:
        """At a frame's masks; see `Plausibility.add`."""
        self._masks.add(rgb, labels, confidence)

    def warnings(self) -> tuple[str, ...]:
        """What is wrong now; of stamps, what came since the last call."""
        problems = self._stamps.problems
        new, self._told = problems.since(self._told), problems
        return (new.line, self._masks.problem)

    def values(self) -> dict[str, str]:
        """For diagnostics."""
        problems = self._stamps.problems
        return {
            "stamps_zero": str(problems.zero),
            "stamps_future": str(problems.future),
            "stamps_backwards": str(problems.backwards),
            **self._masks.values(),
        }
