"""A model file is written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A file beside `out` to write to, which takes its place when the block ends without an error.

    The last step is a rename, so that no reader ever sees half a file.
    """
    descriptor, temporary = tempfile.mkstemp(suffix=".onnx", dir=out.parent)
    os.close(descriptor)
    try:
        yield Path(temporary)
        Path(temporary).chmod(0o644)
        os.replace(temporary, out)
    finally:
        Path(temporary).unlink(missing_ok=True)
