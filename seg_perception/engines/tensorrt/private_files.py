"""Files that only their owner can have written: what is deserialized is executed, so nobody else may have a hand in it."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UntrustedFileError(ValueError):
    """Another user owns or can write a file or folder, or it is a link. One line: which, and what to do."""


def make_private_folder(folder: Path) -> None:
    """Make a folder for this user alone, or check that it is one.

    Raises:
        UntrustedFileError: it belongs to somebody else, or others can write it or swap it for another.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_trusted(folder, folder.lstat())
    for parent in folder.resolve().parents:
        status = parent.stat()
        # Whoever can write a folder can rename what is in it, unless the sticky bit is set (/tmp).
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            raise UntrustedFileError(
                f"everyone can write {parent}, and so replace {folder}; `chmod o-w {parent}` or choose another folder"
            )


def read_private(path: Path) -> bytes:
    """All bytes of a file that only this user (or root) can have written.

    Owner and mode are those of the very file that is read: it is opened first and asked then.

    Raises:
        UntrustedFileError: it belongs to somebody else, others can write it, or it is no plain file.
        OSError: it cannot be read; FileNotFoundError where it is not there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise UntrustedFileError(f"{path} is a link, expected a plain file; delete it") from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UntrustedFileError(f"{path} is no plain file; delete it")
        _require_trusted(path, status)
        return file.read()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` whole, or not at all: also when the power goes.

    Raises:
        OSError: it cannot be written; nothing is left behind then.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Let a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_trusted(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise UntrustedFileError(f"{path} is a link, expected a folder of its own; delete it or choose another")
    if status.st_uid not in (os.geteuid(), 0):
        raise UntrustedFileError(
            f"{path} belongs to user {status.st_uid}, this is user {os.geteuid()}; engines are executed, so it is not "
            "used: delete it or choose another folder"
        )
    if status.st_mode & _OTHERS_WRITE:
        raise UntrustedFileError(
            f"other users can write {path} (mode {stat.S_IMODE(status.st_mode):o}); engines are executed, so it is not "
            f"used: `chmod go-w {path}` if you trust what is in it, or delete it"
        )
