"""download.json: what a folder holds, where it came from, and how that can be checked again."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.events import UserError
from pipelines.files import read_json, sha256, write_json
from pipelines.io.download import Fetched, Wanted

NAME = "download.json"
VERSION = 1


@dataclass
class FileRow:
    """A file that is whole.

    sha256: of the file as it came.  checked: the published checksum that it matched; None means
    that none is known, and that sha256 is what was learned the first time.
    adopted_from: where it lay when it was handed over instead of downloaded.
    mtime_ns: by which a file that nobody has touched is known without reading it again.
    is_removed: the archive was removed after it had been unpacked.
    """

    url: str
    size: int
    sha256: str
    checked: str | None
    date: str
    mtime_ns: int
    etag: str | None = None
    last_modified: str | None = None
    stamp: str | None = None
    adopted_from: str | None = None
    is_removed: bool = False


@dataclass
class UnpackedRow:
    """An archive that was unpacked.

    archives: its parts.  fingerprint: of their checksums.  names: what it left in the folder,
    relative, the topmost only.
    """

    archives: list[str]
    fingerprint: str
    names: list[str]
    num_files: int
    num_bytes: int


@dataclass
class ContentRow:
    """Content that was handed over unpacked. names: as in UnpackedRow."""

    names: list[str]
    adopted_from: str
    num_files: int
    num_bytes: int


class Manifest:
    """The manifest of one folder. `record` saves it; who changes rows otherwise calls `save`.

    listed: the files of shared folders, as their servers listed them last.
    terms_accepted: when the user did so, None when it was not needed.
    """

    def __init__(self, folder: Path, *, dataset: str, tool_version: str = "") -> None:
        self.folder = folder
        self.path = folder / NAME
        self.dataset = dataset
        self.tool_version = tool_version
        self.files: dict[str, FileRow] = {}
        self.unpacked: dict[str, UnpackedRow] = {}
        self.contents: dict[str, ContentRow] = {}
        self.listed: dict[str, list[str]] = {}
        self.terms_accepted: str | None = None
        if self.path.exists():
            self._read()

    def record(self, wanted: Wanted, fetched: Fetched, *, adopted_from: str | None = None) -> None:
        """Note a file that has just become whole."""
        self.files[wanted.name] = FileRow(
            url=wanted.url,
            size=fetched.size,
            sha256=fetched.sha256,
            checked=fetched.checked,
            date=now(),
            mtime_ns=(self.folder / wanted.name).stat().st_mtime_ns,
            etag=fetched.etag,
            last_modified=fetched.last_modified,
            stamp=wanted.stamp,
            adopted_from=adopted_from,
        )
        self.save()

    def is_whole(self, name: str) -> bool:
        """Whether a file is here and still what it was; reads it only when it was touched."""
        row, path = self.files.get(name), self.folder / name
        if row is None:
            return False
        if row.is_removed and not path.exists():
            return True
        if not path.is_file() or path.stat().st_size != row.size:
            return False
        if path.stat().st_mtime_ns != row.mtime_ns:
            if sha256(path) != row.sha256:
                return False
            row.mtime_ns = path.stat().st_mtime_ns
        return True

    def verify(self, name: str) -> str | None:
        """Read a file again: None when it is what it was, else 'missing' or 'changed'."""
        row, path = self.files[name], self.folder / name
        if not path.is_file():
            return None if row.is_removed else "missing"
        is_same = path.stat().st_size == row.size and sha256(path) == row.sha256
        return None if is_same else "changed"

    def has_all(self, names: Iterable[str]) -> bool:
        """Whether everything that an archive or a hand-over left is still in the folder."""
        return all((self.folder / name).exists() for name in names)

    def forget_lost(self) -> None:
        """Drop what was unpacked and is gone, so that it is unpacked (or fetched) again."""
        for name, row in list(self.unpacked.items()):
            if not self.has_all(row.names):
                del self.unpacked[name]
                for archive in row.archives:
                    if self.files[archive].is_removed:
                        del self.files[archive]
        for name, content in list(self.contents.items()):
            if not self.has_all(content.names):
                del self.contents[name]

    def save(self) -> None:
        """Write it, whole or not at all."""
        write_json(
            self.path,
            {
                "version": VERSION,
                "dataset": self.dataset,
                "tool": self.tool_version,
                "files": {name: asdict(row) for name, row in sorted(self.files.items())},
                "unpacked": {name: asdict(row) for name, row in sorted(self.unpacked.items())},
                "contents": {name: asdict(row) for name, row in sorted(self.contents.items())},
                "terms_accepted": self.terms_accepted,
                "listed": dict(sorted(self.listed.items())),
            },
        )

    def _read(self) -> None:
        try:
            value: dict[str, Any] = read_json(self.path)
            if value["version"] != VERSION:
                raise ValueError(f"version {value['version']}")
            self.files = {name: FileRow(**row) for name, row in value["files"].items()}
            self.unpacked = {name: UnpackedRow(**row) for name, row in value["unpacked"].items()}
            self.contents = {name: ContentRow(**row) for name, row in value["contents"].items()}
            self.terms_accepted = value["terms_accepted"]
            self.listed = {str(label): list(names) for label, names in value["listed"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise UserError(
                f"'{NAME}' cannot be read",
                {
                    "file": self.path,
                    "reason": problem,
                    "to fix": "move it away; the files are then checked and taken over anew",
                },
            ) from problem


def now() -> str:
    """The time in UTC, as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
