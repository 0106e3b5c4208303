"""Many recordings as one: their pixel counts added up."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def merged_confusion(confusions: Iterable[np.ndarray | None]) -> np.ndarray | None:
    """The sum of int64 [K, K + 1] counts, exact whatever the order; None where none has labels."""
    total: np.ndarray | None = None
    for confusion in confusions:
        if confusion is not None:
            total = confusion.copy() if total is None else total + confusion
    return total
