"""Unpacking: honest archives come out byte for byte, hostile ones leave nothing behind."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.events import UserError
from pipelines.io.archives import ArchiveError, Limits, extract, is_archive
from tests.pipelines.io.archive_makers import (
    ZipMaker,
    ZipRow,
    gzipped,
    honest_tar,
    honest_zip,
    pax_entry,
    split_zip,
    tar_entry,
    tar_header,
    tar_of,
    zip_of,
)

FILES = {
    "clips/train/one.avi": bytes(range(256)) * 700,
    "clips/train/two.avi": b"",
    "clips/test/naïve name.txt": b"text " * 3000,
    "readme": b"x",
}
REPOSITORY = Path(__file__).parents[3]
noise = random.Random(7).randbytes


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def unpack(
    tmp_path: Path, data: bytes, name: str = "archive", **options: object
) -> dict[str, bytes]:
    """Extract bytes and give what came out."""
    archive = tmp_path / name
    archive.write_bytes(data)
    extract(archive, tmp_path / "out", **options)  # type: ignore[arg-type]
    return tree(tmp_path / "out")


@pytest.mark.parametrize(
    "data",
    [
        honest_zip(FILES),
        honest_zip(FILES, zipfile.ZIP_STORED),
        honest_tar(FILES),
        honest_tar(FILES, mode="w"),
        honest_tar(FILES, mode="w", format=tarfile.GNU_FORMAT),
        ZipMaker([ZipRow(n, c, 8, zip64=True) for n, c in FILES.items()], zip64_end=True).built(),
        ZipMaker([ZipRow(n, c) for n, c in FILES.items()], comment=b"PK\x05\x06 a remark").built(),
    ],
    ids=["zip", "zip stored", "tgz", "tar pax", "tar gnu", "zip64", "zip with comment"],
)
def test_an_archive_comes_out_as_it_went_in(tmp_path: Path, data: bytes) -> None:
    assert unpack(tmp_path, data) == FILES


@pytest.mark.parametrize("method", [0, 8], ids=["stored", "deflated"])
@pytest.mark.parametrize("part_bytes", [700, 4096, 65536])
def test_a_split_zip_comes_out_whole(tmp_path: Path, method: int, part_bytes: int) -> None:
    files = {f"VID_{n}_1.mkv": noise(3000 + 977 * n) for n in range(12)}
    parts = split_zip(files, tmp_path / "plants.zip", part_bytes=part_bytes, method=method)
    assert len(parts) > 1 or part_bytes == 65536
    extract(parts[-1], tmp_path / "out")
    assert tree(tmp_path / "out") == files


@pytest.mark.skipif(shutil.which("zip") is None, reason="the zip program is not installed")
def test_a_zip_split_by_the_zip_program_comes_out_whole(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    files = {f"{n}.bin": noise(60_000) for n in range(5)}
    for name, content in files.items():
        (source / name).write_bytes(content)
    subprocess.run(
        ["zip", "-q", "-r", "-s", "64k", str(tmp_path / "a.zip"), "."], cwd=source, check=True
    )
    assert len(list(tmp_path.glob("a.z*"))) > 3
    extract(tmp_path / "a.zip", tmp_path / "out")
    assert tree(tmp_path / "out") == files


def test_a_missing_part_of_a_split_zip_is_named(tmp_path: Path) -> None:
    parts = split_zip({"a": noise(5000)}, tmp_path / "plants.zip", part_bytes=1500, method=0)
    parts[1].unlink()
    with pytest.raises(ArchiveError, match=r"'plants\.z02' is missing \(4 parts"):
        extract(parts[-1], tmp_path / "out")


def test_long_names_in_every_dialect_of_tar_come_out(tmp_path: Path) -> None:
    name = "/".join([f"a folder with a long name {n}" for n in range(8)]) + "/file"
    long_name = tar_entry("././@LongLink", name.encode() + b"\x00", b"L")
    dialects = {
        "gnu": tar_of(long_name + tar_entry(name[:100], b"gnu")),
        "pax": tar_of(pax_entry({"path": name}) + tar_entry(name[:100], b"pax")),
        "ustar": tar_of(tar_entry(name[-80:].lstrip("/"), b"ustar", prefix=b"deep/folder")),
    }
    for dialect, data in dialects.items():
        folder = tmp_path / dialect
        folder.mkdir()
        (content,) = unpack(folder, data).values()
        assert content == dialect.encode()


# Each row: what is wrong, the archive, words of the message.
DEVICES = {b"1": "hard link", b"2": "symbolic link", b"3": "device", b"4": "device", b"6": "pipe"}
HOSTILE_NAMES = {
    "climbs": "../evil",
    "climbs in the middle": "a/../../evil",
    "climbs at the end": "a/b/..",
    "absolute": "/etc/evil",
    "drive letter": "C:/evil",
    "drive letter below": "a/c:evil",
    "backslash": "..\\evil",
    "backslash in the middle": "a\\b",
    "zero byte": "a\x00.txt",
    "line break": "a\nb",
    "escape sequence": "\x1b[2Jgone",
    "dots and blanks": "a/.. /evil",
    "only dots": ".../evil",
    "too long": "n" * 256,
    "too deep": "d/" * 41 + "f",
}
BOMB = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMB_DATA = BOMB.compress(bytes(1 << 22)) + BOMB.flush()
SMALL = Limits(max_bytes=1 << 21, ratio_from_bytes=1 << 16, max_ratio=50, max_files=20)


def hostile() -> dict[str, tuple[bytes, str]]:
    """Archives that must be refused, with a pattern of the message."""
    cases: dict[str, tuple[bytes, str]] = {}
    for what, name in HOSTILE_NAMES.items():
        cases[f"zip: {what}"] = zip_of(ZipRow(name, b"evil")), "is refused: the name"
        entry = pax_entry({"path": name}) + tar_entry("short", b"evil")
        cases[f"tar: {what}"] = tar_of(entry), "is refused: the name"
    for kind, words in DEVICES.items():
        cases[f"tar: type {kind!r}"] = tar_of(tar_entry("a", b"", kind, link="/etc/passwd")), words
    for what, mode in {"link": 0o120777, "device": 0o060644, "pipe": 0o010644}.items():
        cases[f"zip: {what}"] = zip_of(ZipRow("a", b"/etc/passwd", mode=mode)), "is refused"
    twice = (
        ("a/b", "a/b"),
        ("a/b", "a/B"),
        ("A/b", "a/c"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("\u00e9", "e\u0301"),
    )
    for first, second in twice:
        rows = ZipRow(first, b"1"), ZipRow(second, b"2")
        cases[f"zip: {first} and {second}"] = zip_of(*rows), "is refused: the name"
        entries = tar_entry(first, b"1"), tar_entry(second, b"2")
        cases[f"tar: {first} and {second}"] = tar_of(*entries), "is refused: the name"
    return cases | _bombs() | _broken_zips() | _broken_tars()


def _bombs() -> dict[str, tuple[bytes, str]]:
    overlapping = ZipRow("b", b"", 8, size=1 << 22, crc=0, data=BOMB_DATA, offset=0)
    huge = {"2^63": 1 << 63, "2^63 - 1": (1 << 63) - 1, "2^64 - 1": (1 << 64) - 1}
    cases = {
        "zip: total size": (
            zip_of(ZipRow("a", b"", 8, data=BOMB_DATA, size=1 << 22)),
            "times its size",
        ),
        "zip: more than announced": (
            zip_of(ZipRow("a", b"", 8, data=BOMB_DATA, size=1000)),
            "longer than announced",
        ),
        "zip: overlapping entries": (
            zip_of(ZipRow("a", bytes(99)), ZipRow("b", bytes(99), offset=0)),
            "overlap",
        ),
        "zip: nested entries": (zip_of(ZipRow("a", bytes(500)), overlapping), "overlap|beyond"),
        "zip: many files": (zip_of(*(ZipRow(str(n)) for n in range(50))), "more than 20 entries"),
        "tar: many files": (
            tar_of(*(tar_entry(str(n)) for n in range(50))),
            "more than 20 entries",
        ),
        "tgz: ratio": (gzipped(tar_of(tar_entry("a", bytes(1 << 20)))), "times its size"),
        "tar: total size": (tar_of(tar_entry("a", bytes(1 << 22))), "would take"),
        "tar: huge header extension": (
            tar_of(tar_header("x", 1 << 30, b"x")),
            "header extension takes",
        ),
        "tar: huge long name": (tar_of(tar_header("x", 1 << 30, b"L")), "header extension takes"),
        "tar: negative size": (tar_of(tar_header("a", b"\xff" * 12)), "negative size"),
        "tar: pax size of letters": (
            tar_of(pax_entry({"size": "-5"}) + tar_entry("a", b"1")),
            "has the size",
        ),
    }
    for what, size in huge.items():
        row = ZipRow("a", b"1", size=size, packed=size)
        cases[f"zip: size {what}"] = zip_of(row), "beyond the end"
        row = ZipRow("a", b"1", 8, size=size)
        cases[f"zip: unpacked size {what}"] = zip_of(row), "times its size"
        field = b"\x80" + size.to_bytes(11, "big")
        cases[f"tar: size {what}"] = tar_of(tar_header("a", field)), "would take"
        pax = pax_entry({"size": str(size)}) + tar_entry("a", b"1")
        cases[f"tar: pax size {what}"] = tar_of(pax), "would take"
    return cases


def _broken_zips() -> dict[str, tuple[bytes, str]]:
    good = honest_zip(FILES)
    renamed = ZipRow("harmless", b"1", local_name=b"../evil!")
    return {
        "zip: encrypted": (zip_of(ZipRow("a", b"1", flags=0x0801)), "encrypted"),
        "zip: unknown method": (zip_of(ZipRow("a", b"1", method=14)), "not supported"),
        "zip: wrong checksum": (zip_of(ZipRow("a", b"1", crc=5)), "checksum"),
        "zip: other name in its header": (zip_of(renamed), "another name"),
        "zip: stored with two sizes": (zip_of(ZipRow("a", b"12", size=1)), "sizes"),
        "zip: shorter than announced": (zip_of(ZipRow("a", b"1" * 99, 8, size=100)), "announced"),
        "zip: folder with content": (zip_of(ZipRow("a/", b"1")), "has content"),
        "zip: entry in a part that is not there": (
            zip_of(ZipRow("a", b"1", disk=3)),
            "part 4 of 1",
        ),
        "zip: entry beyond the end": (zip_of(ZipRow("a", b"1", offset=10**6)), "beyond the end"),
        "zip: entry far beyond the end": (zip_of(ZipRow("a", b"1", offset=1 << 63)), "beyond"),
        "zip: no header where it should be": (
            zip_of(ZipRow("a", bytes(99)), ZipRow("b", offset=50)),
            "overlap",
        ),
        "zip: other bytes where a header should be": (
            ZipMaker([ZipRow("a", bytes(99), offset=3)], prefix=b"PK\x03\x04").built(),
            "header of 'a' is broken",
        ),
        "zip: too few entries": (zip_of(ZipRow("a"), num_entries=2), "as many entries"),
        "zip: directory elsewhere": (zip_of(ZipRow("a"), directory_offset=3), "should be"),
        "zip: directory of 2^63": (
            zip_of(ZipRow("a"), directory_length=1 << 63, zip64_end=True),
            "should be",
        ),
        "zip: not text": (zip_of(ZipRow(b"\xff\xfe", b"1")), "not text"),
        "zip: without its end": (good[:-30], "no end"),
        "zip: half": (good[: len(good) // 2], "no end"),
        "zip: deflate stream broken": (zip_of(ZipRow("a", b"1", 8, data=b"\xff" * 9)), "unpacked"),
        "empty file": (b"", "neither a zip nor a tar"),
        "web page": (b"<!DOCTYPE html><html>quota</html>", "neither a zip nor a tar"),
    }


def _broken_tars() -> dict[str, tuple[bytes, str]]:
    good = honest_tar(FILES, mode="w")
    packed = honest_tar({"noise": noise(50_000)})
    flipped = bytearray(packed)
    flipped[len(flipped) // 2] ^= 0xFF
    cut_at_member = tar_entry("a", b"1") + tar_entry("b", b"2")
    return {
        "tar: sparse": (tar_of(tar_entry("a", b"", b"S")), "sparse"),
        "tar: pax sparse": (
            tar_of(pax_entry({"GNU.sparse.major": "1"}) + tar_entry("a")),
            "sparse",
        ),
        "tar: unknown type": (tar_of(tar_entry("a", b"", b"Q")), "unknown type"),
        "tar: part of a set": (tar_of(tar_entry("a", b"", b"M")), "part of another"),
        "tar: cut in a file": (good[: len(good) // 2], "cut short"),
        "tar: cut in a header": (tar_entry("a", b"1") + tar_header("b")[:300], "cut short"),
        "tar: cut between files": (cut_at_member, "cut short"),
        "tar: wrong header checksum": (
            tar_of(tar_entry("a", b"1"), b"x" + tar_entry("b")[1:]),
            "checksum",
        ),
        "tar: malformed pax": (tar_of(tar_entry("p", b"99 path=x\n", b"x")), "malformed"),
        "tgz: cut": (packed[:-20], "gzip stream"),
        "tgz: half": (packed[: len(packed) // 2], "gzip stream"),
        "tgz: a bit flipped": (bytes(flipped), "damaged"),
        "tgz: something else inside": (gzipped(b"hello" * 200), "checksum"),
    }


CASES = hostile()


@pytest.mark.parametrize("what", CASES)
def test_a_hostile_or_broken_archive_is_refused_and_leaves_nothing(
    tmp_path: Path, what: str
) -> None:
    data, words = CASES[what]
    work = tmp_path / "work"
    work.mkdir()
    (work / "mine.txt").write_text("mine")
    (work / "archive").write_bytes(data)
    with pytest.raises(ArchiveError, match=words) as caught:
        extract(work / "archive", work / "out", limits=SMALL)
    assert caught.value.details["to fix"]
    assert sorted(path.name for path in work.iterdir()) == ["archive", "mine.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_there_are_at_least_forty_hostile_archives() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize("make", [honest_zip, honest_tar], ids=["zip", "tgz"])
def test_an_archive_cut_anywhere_is_never_taken_for_whole(
    tmp_path: Path, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    data = make({"a": noise(400), "b/c": b"12" * 300})
    for length in range(0, len(data), 7):
        (tmp_path / "archive").write_bytes(data[:length])
        with pytest.raises(ArchiveError):
            extract(tmp_path / "archive", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize("make", [honest_zip, honest_tar], ids=["zip", "tgz"])
def test_a_flipped_bit_gives_the_right_files_or_one_clear_error(
    tmp_path: Path, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    files = {"a": b"some text " * 40, "b/c": noise(300)}
    data = make(files)
    for at in range(0, len(data), 11):
        flipped = bytearray(data)
        flipped[at] ^= 0x10
        (tmp_path / "archive").write_bytes(flipped)
        try:
            extract(tmp_path / "archive", tmp_path / "out")
        except ArchiveError:
            continue
        contents = tree(tmp_path / "out")  # a flip in a date or a name does no harm
        assert sorted(contents.values()) == sorted(files.values())
        shutil.rmtree(tmp_path / "out")


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(ArchiveError, match="is there already"):
        unpack(tmp_path, honest_zip(FILES))
    assert tree(tmp_path / "out") == {"mine": b"mine"}


def test_what_a_killed_run_left_behind_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".out.part" / "clips").mkdir(parents=True)
    (tmp_path / ".out.part" / "clips" / "half").write_text("half")
    assert unpack(tmp_path, honest_zip(FILES)) == FILES
    assert not (tmp_path / ".out.part").exists()


def test_progress_ends_at_the_number_of_bytes_written(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    unpack(tmp_path, honest_zip(FILES), report=lambda done, total: seen.append((done, total)))
    total = sum(len(content) for content in FILES.values())
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("make", [honest_zip, honest_tar], ids=["zip", "tgz"])
def test_memory_does_not_grow_with_the_files(
    tmp_path: Path, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    (tmp_path / "archive").write_bytes(make({"big": bytes(range(256)) * (1 << 17)}))
    tracemalloc.start()
    extract(tmp_path / "archive", tmp_path / "out", limits=Limits(max_ratio=2000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "out" / "big").stat().st_size == 1 << 25
    assert peak < 4 << 20


def test_a_disk_that_fills_up_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(
        honest_tar({f"{n}": noise(200_000) for n in range(4)}, mode="w")
    )
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from pipelines.events import UserError; from pipelines.io.archives import extract\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n"
        "try: extract(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except UserError as problem: print(problem.message)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "archive"), str(tmp_path / "out")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "no space left to unpack 'archive'\n"
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_an_archive_larger_than_the_free_space_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match="no space left to unpack"):
        unpack(tmp_path, honest_zip(FILES))


def test_archives_are_known_by_their_content(tmp_path: Path) -> None:
    kinds = {"zip": honest_zip(FILES), "tar": honest_tar(FILES, mode="w"), "tgz": honest_tar(FILES)}
    for name, data in kinds.items():
        (tmp_path / name).write_bytes(data)
        assert is_archive(tmp_path / name)
    (tmp_path / "page.zip").write_text("<html></html>")
    assert not is_archive(tmp_path / "page.zip")
