"""Unpacking archives that nobody here has made: zip (also split), tar, tar.gz.

Our own extractor, because the ones at hand trust their input in one place or another. It writes
plain files and folders only, refuses every name that could land elsewhere or hide another file,
bounds what an archive may grow to, streams (memory does not grow with the files), and leaves
either the whole folder or nothing.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.events import UserError
from pipelines.io.members import Archive, Damaged, Member, Refused
from pipelines.io.names import NameRefused, NameRegistry, safe_parts
from pipelines.io.signatures import kind_of_file
from pipelines.io.tar_archive import TarArchive
from pipelines.io.zip_archive import ZipArchive, find_parts, is_last_zip_part

Report = Callable[[int, int | None], None]
"""Called with the bytes written so far and their total (None when the archive does not say)."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Limits:
    """What an archive may hold. Bytes are those of the unpacked files.

    max_ratio: unpacked over packed bytes, looked at once more than ratio_from_bytes are written
    (videos and images hardly shrink; a small text may shrink a hundredfold).
    """

    max_files: int = 5_000_000
    max_bytes: int = 1 << 41
    max_ratio: float = 100.0
    ratio_from_bytes: int = 1 << 26


@dataclass(frozen=True)
class Extracted:
    """What came out of an archive."""

    num_files: int
    num_bytes: int


class ArchiveError(UserError):
    """An archive that is damaged, of an unknown kind, or refused for what it holds."""


def is_archive(path: Path) -> bool:
    """Whether a file looks like an archive that `extract` reads; of a split zip the last part."""
    if kind_of_file(path) in ("zip", "split zip", "gzip", "tar"):
        return not re.fullmatch(r"\.z\d+", path.suffix.lower())
    return is_last_zip_part(path)


def parts_of(path: Path) -> list[Path]:
    """The files of an archive in order, `path` last. Raises ArchiveError when one is missing."""
    with _damage_explained(path):
        return find_parts(path) if is_last_zip_part(path) else [path]


def names_in(archive: Path) -> list[str]:
    """The names of an archive's entries, as they are written there. Raises ArchiveError."""
    with _damage_explained(archive), open_archive(archive) as opened:
        return [member.name for member in opened.members()]


def extract(
    archive: Path, into: Path, *, limits: Limits | None = None, report: Report | None = None
) -> Extracted:
    """Unpack an archive into the new folder `into`, which appears whole or not at all.

    archive: a zip, tar or tar.gz; of a split zip the last part (`x.zip` beside `x.z01`, ...).
    What an interrupted call left beside `into` is cleared away first.
    Raises ArchiveError (damaged, refused, a part missing) and UserError (no space).
    """
    if into.exists():
        raise ArchiveError(f"'{into.name}' is there already", {"folder": into})
    building = into.with_name(f".{into.name}.part")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        extracted = _fill(archive, building, limits or Limits(), report)
        os.sync()
        os.replace(building, into)
    except OSError as problem:
        raise _explained(problem, archive, into) from problem
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return extracted


def _fill(archive: Path, folder: Path, limits: Limits, report: Report | None) -> Extracted:
    with _damage_explained(archive), open_archive(archive) as opened:
        tree = _Tree(folder, limits, opened, report)
        for member in opened.members():
            tree.add(member)
        tree.finish()
        return Extracted(tree.num_files, tree.written)


@contextmanager
def _damage_explained(archive: Path) -> Iterator[None]:
    try:
        yield
    except Damaged as problem:
        raise ArchiveError(
            f"'{archive.name}' is damaged: {problem}",
            {"archive": archive, "to fix": "move it away, then download it again"},
        ) from problem
    except Refused as problem:
        raise ArchiveError(
            f"'{archive.name}' is refused: {problem}",
            {"archive": archive, "to fix": "get it from its publisher; this copy is not safe"},
        ) from problem


def open_archive(path: Path) -> AbstractContextManager[Archive]:
    """Open an archive by what it holds, whatever its name says."""
    kind = kind_of_file(path)
    if kind in ("gzip", "tar"):
        return TarArchive(path, is_gzip=kind == "gzip")
    if kind in ("zip", "split zip") or is_last_zip_part(path):
        return ZipArchive(path)
    raise Damaged("it is neither a zip nor a tar file")


class _Tree:
    """The folder that an archive is written into, and the account of what was written."""

    def __init__(
        self, folder: Path, limits: Limits, archive: Archive, report: Report | None
    ) -> None:
        self.folder = folder
        self.limits = limits
        self.archive = archive
        self.num_files = 0
        self.written = 0
        self._num_entries = 0
        self._report = report
        self._names = NameRegistry()
        self._free = shutil.disk_usage(folder).free
        if archive.total_bytes is not None:
            self._check_ratio(archive.total_bytes)
            self._check_room(archive.total_bytes, "its content")

    def add(self, member: Member) -> None:
        """Write one entry. Raises Refused, Damaged, OSError."""
        self._num_entries += 1
        if self._num_entries > self.limits.max_files:
            raise Refused(f"it holds more than {self.limits.max_files} entries")
        shown = ascii(member.name[:100])
        try:
            parts = safe_parts(member.name)
            if member.is_folder:
                self._names.add_folder(parts)
                self.folder.joinpath(*parts).mkdir(parents=True, exist_ok=True)
                return
            if not parts:
                raise NameRefused("is empty")
            self._names.add_file(parts)
        except NameRefused as problem:
            raise Refused(f"the name {shown} {problem}") from None
        self._check_room(self.written + member.size, shown)
        self._write(member, self.folder.joinpath(*parts))
        self.num_files += 1

    def finish(self) -> None:
        """Report the end."""
        if self._report:
            self._report(self.written, self.written)

    def _write(self, member: Member, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = self.written
        with path.open("xb") as stream:
            for piece in member.read():
                self._count(len(piece))
                stream.write(piece)
        if self.written - before != member.size:
            raise Damaged(f"{member.name[:100]!a} is not as long as announced")

    def _count(self, num_bytes: int) -> None:
        self.written += num_bytes
        if self.written > self.limits.max_bytes:
            raise Refused(f"it unpacks to more than {self.limits.max_bytes} bytes")
        self._check_ratio(self.written)
        if self._report:
            self._report(self.written, self.archive.total_bytes)

    def _check_ratio(self, num_bytes: int) -> None:
        limits = self.limits
        allowed = max(self.archive.packed_bytes * limits.max_ratio, limits.ratio_from_bytes)
        if num_bytes > allowed:
            raise Refused(f"it unpacks to more than {self.limits.max_ratio:g} times its size")

    def _check_room(self, num_bytes: int, what: str) -> None:
        if num_bytes > self.limits.max_bytes:
            raise Refused(f"{what} would take {num_bytes} bytes")
        if num_bytes > self._free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _explained(problem: OSError, archive: Path, into: Path) -> UserError:
    if problem.errno in _NO_SPACE:
        return UserError(
            f"no space left to unpack '{archive.name}'",
            {"folder": into.parent, "to fix": "free some space, then run the same command again"},
        )
    return ArchiveError(
        f"'{archive.name}' cannot be unpacked: {problem.strerror or problem}",
        {"archive": archive, "folder": into, "to fix": "check the folder and its permissions"},
    )
