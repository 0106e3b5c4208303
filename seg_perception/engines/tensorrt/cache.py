"""The engines that were built on this machine: whole or not there, the owner's alone, and no more than so many bytes.

An entry is two files, `NAME.engine` (TensorRT's own bytes) and `NAME.json` (the manifest: key, digest, size, origin). The
manifest is written last and its digest is checked before an engine is used, so that what a crash, a full disk or a bad
SD card leaves behind is built again and never run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seg_perception.engines.tensorrt.key import EngineKey
from seg_perception.engines.tensorrt.lock import FileLock, Holder, is_held
from seg_perception.engines.tensorrt.options import TensorRtSettings
from seg_perception.engines.tensorrt.private_files import (
    UntrustedFileError,
    make_private_folder,
    read_private,
    replacing,
    sync_folder,
)

logger = logging.getLogger(__name__)

FORMAT = 1
DEFAULT_LIMIT_MB = TensorRtSettings().cache_limit_mb
_STALE_PARTIAL_S = 86400.0
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Entry:
    """An engine in the cache.

    Attributes:
        name: of its files, without suffix.
        manifest: `key`, `sha256`, `size`, `model`, `created` (seconds since 1970), `build_s`, `agreement`.
        size: bytes of its files.
        used: when it was last loaded or built, seconds since 1970.
    """

    name: str
    manifest: dict[str, Any]
    size: int
    used: float


@dataclass(frozen=True)
class Found:
    """What a look-up gave: the engine's bytes and manifest, or none and why in `reason`."""

    plan: bytes | None
    manifest: dict[str, Any]
    reason: str


class EngineCache:
    """A folder of engines.

    Args:
        folder: made if it is not there, for this user alone.
        limit_mb: most megabytes (10**6 bytes) that engines may take; the least recently used go first.

    Raises:
        UntrustedFileError: other users have a hand in the folder.
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path, limit_mb: int = DEFAULT_LIMIT_MB) -> None:
        if limit_mb < 0:
            raise ValueError(f"cache limit is {limit_mb} MB, expected 0 or more")
        make_private_folder(folder)
        self.folder = folder
        self._limit = limit_mb * 10**6

    # One engine

    def find(self, name: str, key: EngineKey) -> Found:
        """The engine of exactly this key, its digest checked."""
        try:
            manifest = self._read_manifest(name)
            plan = read_private(self._plan(name))
        except FileNotFoundError:
            return Found(None, {}, self._why_missing(name, key))
        except (ValueError, OSError) as error:
            return Found(None, {}, str(error))
        problem = _problem(plan, manifest)
        if not problem and manifest["key"] != json.loads(json.dumps(asdict(key))):
            problem = "its manifest is for another key"
        if problem:
            return Found(None, {}, f"the engine in {self._plan(name)} is not used: {problem}")
        self._touch(name)
        return Found(plan, manifest, "")

    def partial(self, name: str) -> Path:
        """Where a builder writes; `store` puts it into place. Call it with the lock held."""
        for left in self.folder.glob(f".{name}.engine.*.partial"):
            left.unlink(missing_ok=True)  # of a build that was killed
        return self.folder / f".{name}.engine.{os.getpid()}.partial"

    def store(self, name: str, key: EngineKey, partial: Path, origin: dict[str, Any]) -> Found:
        """Take a built engine into the cache, then let old ones go. Call it with the lock held.

        Args:
            name, key: of the entry.
            partial: the engine, whole and synced; it is moved.
            origin: further fields of the manifest: `model`, `build_s`.
        """
        plan = partial.read_bytes()
        manifest = {
            "format": FORMAT,
            "key": json.loads(json.dumps(asdict(key))),
            "sha256": hashlib.sha256(plan).hexdigest(),
            "size": len(plan),
            "created": time.time(),
            "agreement": None,
            **origin,
        }
        self._manifest(name).unlink(missing_ok=True)  # no moment with a new engine under an old manifest
        partial.chmod(0o600)
        os.replace(partial, self._plan(name))
        sync_folder(self.folder)
        self._write_manifest(name, manifest)
        self.shrink(keep=name)
        return Found(plan, manifest, "")

    def note_agreement(self, name: str, manifest: dict[str, Any], agreement: dict[str, Any]) -> None:
        """Keep with an engine how far it agreed with the reference, so that it need not be asked at every start.

        Nothing is kept where another process has built it anew meanwhile, or removed it.
        """
        try:
            if self._read_manifest(name).get("sha256") == manifest["sha256"]:
                self._write_manifest(name, manifest | {"agreement": agreement})
        except (FileNotFoundError, ValueError) as error:
            logger.info("what was found of engine %s is not kept: %s", name, error)

    def lock(
        self, name: str, waiting: Callable[[Holder], None], stopped: Callable[[], bool] = lambda: False
    ) -> FileLock:
        """The right to build this engine; see `FileLock`."""
        return FileLock(self.folder / f"{name}.lock", waiting, stopped)

    # What TensorRT measured and compiled

    def kept(self, name: str) -> bytes:
        """What was kept in a file of this name; empty where there is none that is whole and the user's own."""
        try:
            body = read_private(self.folder / name)
        except FileNotFoundError:
            return b""
        except (UntrustedFileError, OSError) as error:
            logger.warning("left out: %s", error)
            return b""
        digest, body = body[:_DIGEST_BYTES], body[_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            logger.warning("%s is damaged and left out", self.folder / name)
            return b""
        return body

    def keep(self, name: str, body: bytes) -> None:
        """Keep bytes for the next time, with their digest."""
        with replacing(self.folder / name) as file:
            file.write(hashlib.sha256(body).digest() + body)

    # All engines

    def entries(self) -> list[Entry]:
        """All engines with a readable manifest, the most recently used first."""
        found = []
        for path in self.folder.glob("*.json"):
            try:
                manifest = self._read_manifest(path.stem)
                status = path.stat()
                size = status.st_size + self._plan(path.stem).stat().st_size
                kernels = self.folder / f"{path.stem}.kernels"
                size += kernels.stat().st_size if kernels.exists() else 0
            except (OSError, ValueError):
                continue
            found.append(Entry(path.stem, manifest, size, status.st_mtime))
        return sorted(found, key=lambda entry: entry.used, reverse=True)

    def problems(self) -> dict[str, str]:
        """What is wrong with the files of the cache, by file name; nothing is changed."""
        found: dict[str, str] = {}
        for path in sorted(self.folder.glob("*.engine")):
            try:
                problem = _problem(read_private(path), self._read_manifest(path.stem))
            except FileNotFoundError:
                problem = "it has no manifest, as after a crash"
            except (ValueError, OSError) as error:
                problem = str(error)
            if problem:
                found[path.name] = problem
        for path in sorted(self.folder.glob("*.json")):
            if not self._plan(path.stem).exists():
                found[path.name] = "it has no engine"
        for path in sorted(self.folder.glob(".*.partial")):
            found[path.name] = "left by a build that was killed, or is being written"
        return found

    def remove(self, name: str) -> None:
        """Remove an engine; nothing happens where there is none."""
        self._manifest(name).unlink(missing_ok=True)
        self._plan(name).unlink(missing_ok=True)
        (self.folder / f"{name}.kernels").unlink(missing_ok=True)

    def clear(self) -> int:
        """Remove every engine, timing cache and leftover; returns how many engines went. Builds in hand go on."""
        names = {path.stem for path in [*self.folder.glob("*.engine"), *self.folder.glob("*.json")]}
        for name in names:
            self.remove(name)
        for path in [*self.folder.glob("timing-*.cache"), *self.folder.glob("*.kernels")]:
            path.unlink(missing_ok=True)
        for path in [*self.folder.glob(".*.partial"), *self.folder.glob("*.lock")]:
            name = path.stem if path.suffix == ".lock" else path.name[1:].partition(".engine.")[0]
            if not is_held(self.folder / f"{name}.lock"):
                path.unlink(missing_ok=True)
        return len(names)

    def shrink(self, keep: str) -> None:
        """Remove the least recently used engines until the rest fits the limit; `keep` stays whatever its size."""
        entries = self.entries()
        total = sum(entry.size for entry in entries)
        for entry in reversed(entries):
            if total <= self._limit:
                break
            if entry.name != keep:
                logger.info("engine cache is over %d MB: %s goes, it was used last", self._limit // 10**6, entry.name)
                self.remove(entry.name)
                total -= entry.size
        for path in self.folder.glob(".*.partial"):
            if time.time() - path.stat().st_mtime > _STALE_PARTIAL_S:
                path.unlink(missing_ok=True)

    # Parts

    def _plan(self, name: str) -> Path:
        return self.folder / f"{name}.engine"

    def _manifest(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _read_manifest(self, name: str) -> dict[str, Any]:
        path = self._manifest(name)
        try:
            manifest = json.loads(read_private(path))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"manifest {path} is damaged: {error}") from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError(f"manifest {path} is not of format {FORMAT}")
        if not isinstance(manifest.get("key"), dict):
            raise ValueError(f"manifest {path} has no key")
        return manifest

    def _write_manifest(self, name: str, manifest: dict[str, Any]) -> None:
        with replacing(self._manifest(name)) as file:
            file.write(json.dumps(manifest, indent=1).encode())

    def _touch(self, name: str) -> None:
        try:
            os.utime(self._manifest(name))
        except OSError as error:  # a read-only cache is fine: it only cannot be kept small
            logger.debug("cannot note the use of %s: %s", name, error)

    def _why_missing(self, name: str, key: EngineKey) -> str:
        """What the nearest engine in the cache differs in."""
        stem = name.removesuffix(key.digest)
        near = [entry for entry in self.entries() if entry.name.startswith(stem)]
        if not near:
            return "there is none yet"
        differences = min((key.differences(entry.manifest["key"]) for entry in near), key=len)
        return f"the one in the cache was built for other circumstances: now {', '.join(differences) or 'the same'}"


def default_folder() -> Path:
    """Where engines are kept: $SEG_PERCEPTION_CACHE, else seg_perception/ in the user's cache folder.

    Raises:
        ValueError: this user has no home folder.
    """
    chosen = os.environ.get("SEG_PERCEPTION_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "seg_perception" / "engines"
    except RuntimeError as error:
        raise ValueError(f"no folder for TensorRT engines: {error}; set SEG_PERCEPTION_CACHE") from error


def _problem(plan: bytes, manifest: dict[str, Any]) -> str:
    """What is wrong with an engine's bytes; empty if nothing is."""
    if len(plan) != manifest.get("size"):
        return f"it has {len(plan)} bytes, its manifest says {manifest.get('size')}"
    if hashlib.sha256(plan).hexdigest() != manifest.get("sha256"):
        return "its bytes are not those that were built (their digest differs)"
    return ""
