"""Reading tar and tar.gz from front to back: plain files and folders, everything else is refused.

Format: POSIX ustar with the pax and GNU extensions for long names and large sizes. An archive must
end with its block of zeros, so that one cut between two members is noticed.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, cast

from pipelines.io.members import CHUNK_BYTES, Damaged, Member, Refused
from pipelines.io.signatures import is_tar_header

BLOCK = 512
MAX_EXTENSION_BYTES = 1 << 20
"""Longest accepted pax header or GNU long name: real ones take a few hundred bytes."""
MAX_TRAILER_BYTES = 1 << 26
"""Padding read after the end of the archive, to get at gzip's checksum."""

_FILE_TYPES = (b"0", b"\x00", b"7")
_FOLDER_TYPE = b"5"
_REFUSED_TYPES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a pipe",
    b"S": "a sparse file",
    b"M": "a part of another archive",
}


class TarArchive:
    """A tar file being read as a stream, see `pipelines.io.members.Archive`."""

    total_bytes: int | None = None

    def __init__(self, path: Path, *, is_gzip: bool) -> None:
        self.packed_bytes = path.stat().st_size
        # Closed by __exit__: the members are read between the two.
        opened = gzip.open(path, "rb") if is_gzip else path.open("rb")  # noqa: SIM115
        self._stream = cast(IO[bytes], opened)

    def __enter__(self) -> TarArchive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def members(self) -> Iterator[Member]:
        """The entries in file order; what a caller does not read is skipped."""
        long_name: str | None = None
        pax: dict[str, str] = {}
        while (header := self._read(BLOCK)) != bytes(BLOCK):
            if not is_tar_header(header):
                raise Damaged("a header's checksum is wrong")
            kind, size = header[156:157], _number(header[124:136])
            if kind in (b"L", b"K", b"x", b"g"):
                payload = self._extension(size)
                if kind == b"L":
                    long_name = _text(payload.split(b"\x00", 1)[0])
                elif kind == b"x":
                    pax = _pax_records(payload)
                continue
            if "size" in pax:
                size = _pax_size(pax["size"])
            name = pax.get("path") or long_name or _header_name(header)
            yield from self._entry(kind, name, size)
            long_name, pax = None, {}
        self._read_trailer()

    def _entry(self, kind: bytes, name: str, size: int) -> Iterator[Member]:
        if kind == _FOLDER_TYPE or (kind in _FILE_TYPES and name.endswith("/")):
            yield Member(name, is_folder=True, size=0, read=lambda: iter(()))
            self._skip(size + -size % BLOCK)
            return
        if kind not in _FILE_TYPES:
            what = _REFUSED_TYPES.get(kind, f"of an unknown type {kind.decode('latin-1')!a}")
            raise Refused(f"{name[:100]!a} is {what}")
        left = size + -size % BLOCK

        def read() -> Iterator[bytes]:
            nonlocal left
            wanted = size
            while wanted:
                piece = self._read(min(wanted, CHUNK_BYTES))
                wanted -= len(piece)
                left -= len(piece)
                yield piece

        yield Member(name, is_folder=False, size=size, read=read)
        self._skip(left)

    def _extension(self, size: int) -> bytes:
        if size > MAX_EXTENSION_BYTES:
            raise Refused(f"a header extension takes {size} bytes")
        payload = self._read(size)
        self._skip(-size % BLOCK)
        return payload

    def _read(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        try:
            data = self._stream.read(count)
        except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
            raise Damaged(f"the gzip stream ends or breaks ({problem})") from problem
        if len(data) < count:
            raise Damaged("it is cut short")
        return data

    def _skip(self, count: int) -> None:
        while count:
            count -= len(self._read(min(count, CHUNK_BYTES)))

    def _read_trailer(self) -> None:
        if not isinstance(self._stream, gzip.GzipFile):
            return
        for _ in range(MAX_TRAILER_BYTES // CHUNK_BYTES):
            try:
                if not self._stream.read(CHUNK_BYTES):
                    return
            except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
                raise Damaged(f"the gzip stream ends or breaks ({problem})") from problem
        raise Refused("it goes on after its end")


def _header_name(header: bytes) -> str:
    name = header[:100].split(b"\x00", 1)[0]
    if header[257:263] == b"ustar\x00":
        prefix = header[345:500].split(b"\x00", 1)[0]
        name = prefix + b"/" + name if prefix else name
    return _text(name)


def _number(field: bytes) -> int:
    """A header's number: octal digits, or base 256 when the first bit is set."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise Refused("an entry has a negative size")
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.strip(b"\x00 ")
    if any(byte not in b"01234567" for byte in digits):
        raise Damaged("a header holds no number where one should be")
    return int(digits, 8) if digits else 0


def _pax_size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise Refused(f"an entry has the size {text[:30]!a}")
    return int(text)


def _pax_records(payload: bytes) -> dict[str, str]:
    """The key=value records of a pax header, each after its own length in decimal."""
    records: dict[str, str] = {}
    while payload:
        length, space, _ = payload.partition(b" ")
        end = int(length) if length.isdigit() and len(length) < 8 else 0
        record = payload[len(length) + 1 : end]
        if not space or end > len(payload) or not record.endswith(b"\n") or b"=" not in record:
            raise Damaged("a pax header is malformed")
        key, _, value = record[:-1].partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise Refused("it holds a sparse file")
        records[_text(key)] = _text(value)
        payload = payload[end:]
    return records


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
