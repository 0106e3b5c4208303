"""Where the files that come with the package lie: models/, bags/, config/ and launch/."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "seg_perception"


def share_path(relative: str) -> Path:
    """Absolute path of a file or folder that the package ships, such as `models/rooms_spt_lite0.onnx`.

    Looked for in this order: the source checkout around this package (also through `colcon build --symlink-install`),
    the `share/seg_perception` of the colcon or pip prefix this package is installed under, then that of the
    running Python.

    Raises:
        FileNotFoundError: none of these places has it; the message names them all.
    """
    folders = list(_share_folders())
    for folder in folders:
        path = folder / relative
        if path.exists():
            return path
    places = ", ".join(str(folder) for folder in folders)
    raise FileNotFoundError(f"{relative!r} does not come with this installation of {PACKAGE}; looked in: {places}")


def _share_folders() -> Iterator[Path]:
    package = Path(__file__).resolve().parent
    if (package.parent / "package.xml").is_file() or (package.parent / "setup.py").is_file():
        yield package.parent
    # lib/python3.x/site-packages/seg_perception -> prefix/share/seg_perception. Debian adds a local/ level
    # (prefix/local/lib/...), which this walk passes as well.
    for parent in package.parents:
        candidate = parent / "share" / PACKAGE
        if candidate.is_dir():
            yield candidate
    prefix = Path(sys.prefix) / "share" / PACKAGE
    yield prefix
