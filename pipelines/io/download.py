"""Getting files onto the disk: what is wanted, the growing `.part` file, and several at a time.

A fetcher (`pipelines.io.fetchers`) knows one kind of server; everything they share is here. A file
takes its name only when it has the size and the checksum that are known for it. Until then it is
`NAME.part`, with `NAME.part.json` saying of which version of the file it is the beginning, so that
any later run can go on where this one stopped.
"""

from __future__ import annotations

import glob
import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipelines.events import UserError
from pipelines.files import read_json, write_json
from pipelines.io.signatures import START_BYTES, misfit

_POLL_S = 0.1
_GRACE_S = 3.0
"""How long threads get to notice a stop; those still waiting for a server die with the process."""


@dataclass(frozen=True)
class Wanted:
    """One file to get.

    name: relative path below the dataset's folder, '/' between folders, already checked.
    url: where it comes from, for the manifest and messages; holds no secret and does not expire.
    size: bytes.  checksums: 'md5:...', 'sha1:...', 'sha256:...' (of sha256 also only the first
    digits); the file must match one of them.  kinds: signatures to expect instead of what the name
    says, () for anything but a web page.  stamp: what the server's list says about its version.
    key: the fetcher's own handle.
    """

    name: str
    url: str
    size: int | None = None
    checksums: tuple[str, ...] = ()
    kinds: tuple[str, ...] | None = None
    stamp: str | None = None
    key: Any = None


@dataclass(frozen=True)
class Fetched:
    """A file that is whole. checked: by which of the known checksums, None when none is known."""

    size: int
    sha256: str
    checked: str | None = None
    etag: str | None = None
    last_modified: str | None = None


class Fetcher(Protocol):
    """One kind of server. max_parallel: how many of its files may be fetched at a time."""

    max_parallel: int

    def list_files(self) -> list[Wanted]:
        """What it has. Raises UserError when the server cannot be asked."""
        ...

    def measure(self, wanted: Wanted) -> Wanted:
        """The same file, with its size if that was not known and the server tells."""
        ...

    def fetch(self, wanted: Wanted, destination: Path, meter: Meter) -> Fetched:
        """Get one file. Raises UserError, Stopped."""
        ...


class Stopped(Exception):
    """The user asked to stop; what is here so far stays for the next run."""


class Unavailable(UserError):
    """A file that its server will not give; the others can still be had. reason: a word or two."""

    def __init__(self, message: str, details: dict[str, object], *, reason: str) -> None:
        super().__init__(message, details)
        self.reason = reason


class SourceClosed(UserError):
    """The server gives no more files at all: session expired, quota used up."""


class Meter:
    """How much of one file is here; written by its thread, read by all.

    done: bytes of the file that are here.  received: bytes that came from the server in this run.
    """

    def __init__(self, stop: threading.Event | None = None, total: int | None = None) -> None:
        self.done = 0
        self.received = 0
        self.total = total
        self._stop = stop or threading.Event()

    def check(self) -> None:
        """Raise Stopped when the work was called off."""
        if self._stop.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait; a stop ends the wait with Stopped."""
        self._stop.wait(seconds)
        self.check()


@dataclass(frozen=True)
class PartNote:
    """Which version of which file a `.part` is the beginning of."""

    url: str
    stamp: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    total: int | None = None


class PartFile:
    """The part of a file that is already here, and its way to becoming the file."""

    def __init__(self, destination: Path, wanted: Wanted) -> None:
        self.destination = destination
        self.wanted = wanted
        self.path = destination.with_name(destination.name + ".part")
        self._note_path = destination.with_name(destination.name + ".part.json")
        destination.parent.mkdir(parents=True, exist_ok=True)
        self.note = self._read_note()
        if self.note is None:
            self.discard()

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def is_full(self) -> bool:
        """Whether as many bytes are here as the file is known to have."""
        total = self.wanted.size or (self.note.total if self.note else None)
        return total is not None and self.size == total

    def begin(self, note: PartNote) -> None:
        """Start from nothing, as the beginning of the version that `note` names."""
        self.discard()
        write_json(self._note_path, asdict(note))
        self.note = note

    def discard(self) -> None:
        """Forget what is here."""
        self.path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)
        self.note = None

    def finish(self) -> Fetched:
        """Check what is here and give it its name. Raises UserError when it is not the file."""
        with self.path.open("ab") as stream:
            os.fsync(stream.fileno())
        fetched = check_file(self.path, self.wanted)
        os.replace(self.path, self.destination)
        note = self.note
        self._note_path.unlink(missing_ok=True)
        return Fetched(
            fetched.size,
            fetched.sha256,
            fetched.checked,
            note.etag if note else None,
            note.last_modified if note else None,
        )

    def reject(self) -> Path:
        """Keep what is here for a look, out of the way of the next try; returns where."""
        place = self.destination.with_name(self.destination.name + ".rejected")
        os.replace(self.path, place)
        self._note_path.unlink(missing_ok=True)
        return place

    def _read_note(self) -> PartNote | None:
        remove_litter(self._note_path)
        try:
            note = PartNote(**read_json(self._note_path))
        except (OSError, ValueError, TypeError):
            return None
        is_same = (note.url, note.stamp) == (self.wanted.url, self.wanted.stamp)
        fits = self.wanted.size is None or note.total in (None, self.wanted.size)
        return note if is_same and fits and self.path.exists() else None


def remove_litter(path: Path) -> None:
    """Remove what a killed program left beside a file that is written whole or not at all."""
    for beside in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        beside.unlink(missing_ok=True)


class WrongContent(UserError):
    """A complete file that is not the one that was wanted."""


def check_file(path: Path, wanted: Wanted) -> Fetched:
    """Compare a file with all that is known about it. Raises WrongContent."""
    size = path.stat().st_size
    if wanted.size is not None and size != wanted.size:
        raise _wrong(wanted, f"{wanted.size} bytes", f"{size} bytes")
    with path.open("rb") as stream:
        problem = misfit(wanted.name, stream.read(START_BYTES), kinds=wanted.kinds)
    if problem:
        raise _wrong(wanted, "a file that fits its name", problem)
    sums = checksums_of(path, {"sha256", *(known.split(":")[0] for known in wanted.checksums)})
    checked = matching(wanted.checksums, sums)
    if wanted.checksums and checked is None:
        kind = wanted.checksums[0].split(":")[0]
        raise _wrong(wanted, " or ".join(wanted.checksums), f"{kind}:{sums[kind]}")
    return Fetched(size, sums["sha256"], checked)


def checksums_of(path: Path, kinds: set[str]) -> dict[str, str]:
    """Checksums of a file in hexadecimal, all from one reading."""
    hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            for each in hashes.values():
                each.update(chunk)
    return {kind: each.hexdigest() for kind, each in hashes.items()}


def matching(known: Sequence[str], sums: dict[str, str]) -> str | None:
    """The first known checksum that a file has; sha256 may be given by its first digits only."""
    for text in known:
        kind, _, digits = text.partition(":")
        if sums[kind].startswith(digits) if kind == "sha256" else sums[kind] == digits:
            return text
    return None


def _wrong(wanted: Wanted, expected: str, got: str) -> WrongContent:
    return WrongContent(
        f"'{wanted.name}' is not the published file",
        {
            "expected": expected,
            "got": got,
            "from": wanted.url,
            "to fix": "run the command again; if it stays so, the publisher has changed the file",
        },
    )


@dataclass
class Task:
    """A file on its way."""

    wanted: Wanted
    fetcher: Fetcher
    destination: Path
    meter: Meter = field(default_factory=Meter)


Finished = Callable[[Task, Fetched | UserError], None]


def fetch_all(
    tasks: Sequence[Task],
    *,
    jobs: int,
    stop: threading.Event,
    progress: Callable[[], None],
    finished: Finished,
) -> None:
    """Fetch files, at most `jobs` at a time and no more of one fetcher than it allows.

    progress and finished are called here, in the calling thread: several times a second, and for
    each file with what became of it. When a source closes, its other files are given up.
    A stop (Interrupted, Ctrl-C) sets `stop`, waits a moment for the threads, and goes on up.
    """
    board = _Board(tasks)
    done: queue.Queue[tuple[Task, Fetched | BaseException]] = queue.Queue()
    threads = [
        threading.Thread(target=_work, args=(board, done, stop), name="download", daemon=True)
        for _ in range(min(jobs, len(tasks)))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in tasks:
            while True:
                progress()
                try:
                    task, outcome = done.get(timeout=_POLL_S)
                    break
                except queue.Empty:
                    continue
            if not isinstance(outcome, (Fetched, UserError)):
                raise outcome
            finished(task, outcome)
        progress()
    finally:
        stop.set()
        deadline = time.monotonic() + _GRACE_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


class _Board:
    """The tasks that are still to be done, handed out so that no fetcher gets too many."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._waiting = list(tasks)
        self._running: dict[int, int] = {}
        self._closed: dict[int, SourceClosed] = {}
        self._changed = threading.Condition()

    def take(self) -> tuple[Task, SourceClosed | None] | None:
        """The next task (and why not to try it); None when there is none left."""
        with self._changed:
            while self._waiting:
                for index, task in enumerate(self._waiting):
                    source = id(task.fetcher)
                    if self._running.get(source, 0) < task.fetcher.max_parallel:
                        self._running[source] = self._running.get(source, 0) + 1
                        return self._waiting.pop(index), self._closed.get(source)
                self._changed.wait(_POLL_S)
            return None

    def give_back(self, task: Task, outcome: object) -> None:
        """Note that a task is over."""
        with self._changed:
            self._running[id(task.fetcher)] -= 1
            if isinstance(outcome, SourceClosed):
                self._closed[id(task.fetcher)] = outcome
            self._changed.notify_all()


def _work(
    board: _Board,
    done: queue.Queue[tuple[Task, Fetched | BaseException]],
    stop: threading.Event,
) -> None:
    while not stop.is_set() and (next_one := board.take()):
        task, closed = next_one
        outcome: Fetched | BaseException
        try:
            outcome = closed or task.fetcher.fetch(task.wanted, task.destination, task.meter)
        except Exception as problem:  # handed to the calling thread, which sorts it out
            outcome = problem
        board.give_back(task, outcome)
        done.put((task, outcome))
