"""What must hold for every mask of a camera, whatever happens around it: whose it is, that it comes once, and in order."""

from __future__ import annotations

import threading
from array import array
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seg_perception.cdr import Header

REMEMBERED_S = 60.0  # an image that old has no mask any more; one that comes all the same is of no image
MOST_EXAMPLES = 20  # of what went wrong


@dataclass(frozen=True)
class Sent:
    """An image on its way.

    Attributes:
        source: of the publisher; between two publishers on a topic there is no order.
        number: counts up within the source.
        at_s: when, monotonic.
        size: (height, width).
        labels: uint8 [H, W], what is to be seen in it; None where that is not known.
        usable: whether it may have a mask at all.
    """

    source: int
    number: int
    at_s: float
    size: tuple[int, int]
    labels: np.ndarray | None = None
    usable: bool = True


class MaskChecks:
    """One camera's images and masks. Thread-safe.

    Args:
        camera: its name, for messages.
        least_agreement: share of pixels on which a mask must agree with what its image shows.
        tell: called with the first words on each thing that is wrong.
    """

    def __init__(self, camera: str, least_agreement: float, tell: Callable[[str], None]) -> None:
        self.camera = camera
        self.violations: Counter[str] = Counter()
        self.examples: list[str] = []
        self.sent_count = 0
        self.arrived_s, self.ages_s = array("d"), array("d")
        self.lowest_agreement = 1.0
        self._least_agreement = least_agreement
        self._tell = tell
        self._lock = threading.Lock()
        self._sent: dict[Header, Sent] = {}
        self._order: deque[tuple[float, Header]] = deque()
        self._answered: set[Header] = set()
        self._newest: dict[int, int] = {}  # number of the last answered image of each source
        self._asked_s = self._recovered_s = 0.0

    def sent(self, header: Header, image: Sent) -> None:
        """An image is about to be published; its header must be its own."""
        with self._lock:
            assert header not in self._sent, f"two images have the header {header}"
            self._sent[header] = image
            self._order.append((image.at_s, header))
            self.sent_count += 1
            while self._order[0][0] < image.at_s - REMEMBERED_S:
                _, old = self._order.popleft()
                del self._sent[old]
                self._answered.discard(old)

    def arrived(self, header: Header, labels: np.ndarray, now_s: float) -> None:
        """A mask came: its header and classes, uint8 [H, W]."""
        with self._lock:
            image = self._sent.get(header)
            if image is None:
                self._violated("of no image", f"header {header} is of none of the last {REMEMBERED_S:.0f} s")
                return
            if header in self._answered:
                self._violated("twice", f"a second mask of image {image.number}")
                return
            self._answered.add(header)
            newest = self._newest.get(image.source, -1)
            if image.number < newest:
                self._violated("out of order", f"image {image.number} after {newest}")
            self._newest[image.source] = max(newest, image.number)
            if not image.usable:
                self._violated("of a broken image", f"image {image.number} cannot have one")
            if labels.shape != image.size:
                self._violated("of another size", f"{labels.shape}, its image has {image.size}")
            elif image.labels is not None:
                agreement = float(np.mean(labels == image.labels))
                self.lowest_agreement = min(self.lowest_agreement, agreement)
                if agreement < self._least_agreement:
                    self._violated(
                        "of another picture", f"{agreement:.2f} of its pixels agree with image {image.number}"
                    )
            self.arrived_s.append(now_s)
            self.ages_s.append(now_s - image.at_s)
            if self._recovered_s == 0.0 and image.at_s >= self._asked_s:
                self._recovered_s = now_s

    def ask_after(self, moment_s: float) -> None:
        """From here on `recovered_s` is about images sent after this moment."""
        with self._lock:
            self._asked_s, self._recovered_s = moment_s, 0.0

    def recovered_s(self) -> float | None:
        """When the first mask of an image sent after the moment asked for came; None: it has not."""
        with self._lock:
            return self._recovered_s or None

    def longest_gap_s(self, begin_s: float, end_s: float) -> float:
        """Longest time without a mask within a stretch; all of it where none came."""
        with self._lock:
            arrived = np.frombuffer(self.arrived_s, np.float64).copy()
        within = arrived[(arrived > begin_s) & (arrived < end_s)]
        return float(np.diff([begin_s, *within, end_s]).max())

    def _violated(self, kind: str, text: str) -> None:
        self.violations[kind] += 1
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(f"{self.camera}: a mask {kind}: {text}")
            self._tell(self.examples[-1])
