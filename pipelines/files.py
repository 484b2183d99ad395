"""Files that appear whole or not at all, hashes, and safe names. Light: standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_writer(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file that takes its name only when the block ends well: write beside, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, or nothing."""
    with atomic_writer(path) as stream:
        stream.write(text)


def write_json(path: Path, value: object) -> None:
    """Write a whole JSON file, or nothing."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A fresh folder beside `path` that becomes `path` when the block ends well.

    An older folder of that name is replaced only then, and is gone only after the new one is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    os.chmod(building, 0o777 & ~_umask())
    try:
        yield building
        for root, _, names in os.walk(building):
            for name in names:
                _sync(Path(root) / name)
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".old"))
            os.replace(path, old / path.name)
            os.replace(building, path)
            shutil.rmtree(old)
        else:
            os.replace(building, path)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def folder_lock(folder: Path) -> Iterator[bool]:
    """Hold `folder` for this process while the block runs; yields False when another one holds it.

    The system lets go of the lock when the process ends, however it ends.
    """
    import fcntl  # not on every system, and only those who lock need it

    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(value: object) -> str:
    """A short hash of a JSON-able value: equal settings, equal fingerprint."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which frame2 comes before frame10."""
    return tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    )


def safe_name(text: str) -> str:
    """A name that every file system takes: letters, digits, dot, dash and underscore."""
    cleaned = re.sub(r"[^\w.-]+", "_", text).strip("._-") or "unnamed"
    return cleaned[:100]


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
