"""What a file is, told from its first bytes: a log-in page must never be kept as an archive."""

from __future__ import annotations

from pathlib import Path

START_BYTES = 512
"""How much of a file's beginning the functions here want to see."""

_BY_SUFFIX: tuple[tuple[str, tuple[str, ...]], ...] = (
    (".pth.tar", ("zip", "pickle", "tar")),  # torch checkpoints, whatever their name says
    (".pth", ("zip", "pickle", "tar")),
    (".pt", ("zip", "pickle", "tar")),
    (".tar.gz", ("gzip",)),
    (".tgz", ("gzip",)),
    (".tar", ("tar",)),
    (".zip", ("zip",)),
    (".z01", ("split zip", "zip")),
    (".mp4", ("mp4",)),
    (".mkv", ("matroska",)),
    (".webm", ("matroska",)),
    (".avi", ("avi",)),
    (".h5", ("hdf5",)),
)
_TEXT_SUFFIXES = (".csv", ".txt", ".yaml", ".yml", ".json", ".md")
_PAGE_STARTS = (b"<!doctype html", b"<html", b"<head", b"<!--", b"<script", b"<body")
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")


def kind_of(start: bytes) -> str | None:
    """The kind of a file that begins with `start` (512 bytes suffice); None when unknown."""
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if start[:4] in (b"PK\x07\x08", b"PK00"):  # PK00: meant to be split, one part was enough
        return "split zip"
    if start[:2] == b"\x1f\x8b":
        return "gzip"
    if start[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return "avi"
    if start[4:8] in _MP4_BOXES:
        return "mp4"
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return "hdf5"
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return "pickle"
    return "tar" if is_tar_header(start) else "page" if is_page(start) else None


def kind_of_file(path: Path) -> str | None:
    """The kind of a file on disk; None when unknown."""
    with path.open("rb") as stream:
        return kind_of(stream.read(START_BYTES))


def is_page(start: bytes) -> bool:
    """Whether these bytes begin a web page."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGE_STARTS)


def is_tar_header(start: bytes) -> bool:
    """Whether these bytes begin a tar file: the checksum fits (its own field taken as blanks)."""
    if len(start) < 512:
        return False
    field = start[148:156].strip(b"\x00 ")
    if not field or any(byte not in b"01234567" for byte in field):
        return False
    return int(field, 8) == sum(start[:148]) + 8 * 0x20 + sum(start[156:512])


def misfit(name: str, start: bytes, *, kinds: tuple[str, ...] | None = None) -> str | None:
    """What is wrong when a file called `name` begins with `start`; None when nothing is.

    kinds: what it may be instead of what its name says; () for anything but a web page.
    """
    found = kind_of(start)
    if found == "page":
        return "a web page"
    lower = name.lower()
    if kinds is None:
        kinds = next((known for suffix, known in _BY_SUFFIX if lower.endswith(suffix)), ())
    if kinds and found not in kinds:
        return found or "something unknown"
    if not kinds and not lower.endswith(_TEXT_SUFFIXES) and start.lstrip()[:1] == b"<":
        return "a web page or XML"
    return None
