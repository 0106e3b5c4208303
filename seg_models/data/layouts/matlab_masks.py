"""Masks in MATLAB files, as Pascal Context and COCO-Stuff 10K are published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import loadmat

from seg_models.data.image_files import ImageFileError


def read_matlab_mask(path: Path, variable: str) -> np.ndarray:
    """The integers (H, W) of a variable.

    Raises:
        ImageFileError: a file that is damaged, lacks the variable, or holds something else in it.
    """
    try:
        content = loadmat(path, variable_names=[variable])
    except Exception as error:  # a damaged file can fail in any way in here
        raise ImageFileError(f"{path} cannot be read as a MATLAB file, {type(error).__name__}") from error
    if variable not in content:
        raise ImageFileError(f"{path} has no variable {variable}")
    values = np.asarray(content[variable])
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "iu" or values.min() < 0:
        raise ImageFileError(f"{path} holds {variable} of {values.dtype}, {values.shape}; expected ids (H, W)")
    return values
