"""The images that come with the package, on which engines are compared before they are used."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from seg_perception.share import share_path

CHECK_IMAGES = "models/check_images"


def stored_images() -> Iterator[np.ndarray]:
    """The images that come with the package, RGB uint8.

    Raises:
        FileNotFoundError: they do not.
    """
    for path in sorted(share_path(CHECK_IMAGES).glob("*.jpg")):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is not None:
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
