"""Several files at a time: order, limits per source, failures, stops."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from pipelines.events import UserError
from pipelines.io.download import (
    Fetched,
    Meter,
    SourceClosed,
    Stopped,
    Task,
    Wanted,
    WrongContent,
    check_file,
    fetch_all,
)
from pipelines.io.manifest import Manifest


class Pretended:
    """A fetcher whose files take a moment, and which counts how many it is asked for at a time."""

    def __init__(self, max_parallel: int, *, closes_at: str = "", breaks_at: str = "") -> None:
        self.max_parallel = max_parallel
        self.closes_at = closes_at
        self.breaks_at = breaks_at
        self.asked: list[str] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def list_files(self) -> list[Wanted]:
        return []

    def measure(self, wanted: Wanted) -> Wanted:
        return wanted

    def fetch(self, wanted: Wanted, destination: Path, meter: Meter) -> Fetched:
        with self._lock:
            self.asked.append(wanted.name)
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            meter.pause(0.02)
            if wanted.name == self.closes_at:
                raise SourceClosed("the session has expired")
            if wanted.name == self.breaks_at:
                raise OSError(28, "No space left on device")
        finally:
            with self._lock:
                self._now -= 1
        return Fetched(1, "0" * 64)


def fetch_names(
    fetchers: dict[str, Pretended], *, jobs: int, stop: threading.Event | None = None
) -> dict[str, Fetched | UserError]:
    """Fetch one file per name; the first letter of a name says from whom."""
    stop = stop or threading.Event()
    outcomes: dict[str, Fetched | UserError] = {}
    tasks = [
        Task(Wanted(name, ""), fetcher, Path(name), Meter(stop))
        for name, fetcher in fetchers.items()
    ]
    fetch_all(
        tasks,
        jobs=jobs,
        stop=stop,
        progress=lambda: None,
        finished=lambda task, outcome: outcomes.update({task.wanted.name: outcome}),
    )
    return outcomes


def test_files_come_in_parallel_but_no_more_than_a_source_allows() -> None:
    shy, open_handed = Pretended(1), Pretended(4)
    names = {f"a{n}": shy for n in range(4)} | {f"b{n}": open_handed for n in range(8)}
    assert len(fetch_names(names, jobs=4)) == 12
    assert shy.most == 1
    assert 2 <= open_handed.most <= 4


def test_jobs_bound_all_sources_together() -> None:
    fetcher = Pretended(8)
    fetch_names({f"a{n}": fetcher for n in range(8)}, jobs=2)
    assert fetcher.most == 2


def test_a_source_that_closes_is_not_asked_again_and_the_others_go_on() -> None:
    closing, other = Pretended(1, closes_at="a1"), Pretended(1)
    names = {f"a{n}": closing for n in range(5)} | {f"b{n}": other for n in range(5)}
    outcomes = fetch_names(names, jobs=2)
    assert closing.asked == ["a0", "a1"]
    assert all(isinstance(outcomes[f"a{n}"], SourceClosed) for n in range(1, 5))
    assert all(isinstance(outcomes[f"b{n}"], Fetched) for n in range(5))


def test_a_full_disk_ends_everything() -> None:
    fetcher = Pretended(1, breaks_at="a1")
    with pytest.raises(OSError, match="No space left"):
        fetch_names({f"a{n}": fetcher for n in range(50)}, jobs=1)
    assert len(fetcher.asked) < 10


def test_a_stop_from_outside_ends_all_threads_soon() -> None:
    stop, fetcher = threading.Event(), Pretended(1)
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(Stopped):
        fetch_names({f"a{n}": fetcher for n in range(1000)}, jobs=1, stop=stop)
    assert len(fetcher.asked) < 1000


def test_nothing_to_fetch_is_fine() -> None:
    assert fetch_names({}, jobs=4) == {}


def test_a_file_is_compared_with_all_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    sha256 = hashlib.sha256(b"content").hexdigest()
    sha1 = hashlib.sha1(b"content").hexdigest()
    assert check_file(path, Wanted("a.bin", "")).checked is None
    for known in (f"sha256:{sha256}", f"sha256:{sha256[:8]}", f"sha1:{sha1}"):
        assert check_file(path, Wanted("a.bin", "", checksums=(known,))).checked == known
    for wrong in (
        Wanted("a.bin", "", size=8),
        Wanted("a.bin", "", checksums=("sha256:" + "0" * 64,)),
        Wanted("a.bin", "", checksums=(f"sha1:{sha1[:8]}",)),
        Wanted("a.zip", ""),
        Wanted("a.bin", "", kinds=("zip",)),
    ):
        with pytest.raises(WrongContent):
            check_file(path, wrong)


def test_the_manifest_knows_untouched_files_without_reading_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("content")
    manifest = Manifest(tmp_path, dataset="kth")
    manifest.record(Wanted("a.txt", "u"), check_file(tmp_path / "a.txt", Wanted("a.txt", "u")))
    again = Manifest(tmp_path, dataset="kth")
    assert again.files == manifest.files

    reads: list[Path] = []

    def count(path: Path) -> str:
        reads.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr("pipelines.io.manifest.sha256", count)
    assert again.is_whole("a.txt")
    assert reads == []
    (tmp_path / "a.txt").touch()
    assert again.is_whole("a.txt")
    assert len(reads) == 1
    (tmp_path / "a.txt").write_text("CONTENT")
    assert not again.is_whole("a.txt")
    assert not again.is_whole("b.txt")
