"""Reading zip archives, also those split over several files (x.z01, x.z02, ..., x.zip).

Own reader, since Python's cannot read members of a split archive and trusts the directory. The
central directory is checked as a whole before the first byte is written: entries must lie apart
from each other (overlapping ones are how a small file unpacks to petabytes), and each local header
must agree with its entry. Positions are absolute in the joined parts: (sizes of the parts before)
+ offset. Methods: stored and deflated. Format: PKWARE's APPNOTE 6.3, with the zip64 records.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from types import TracebackType

from pipelines.io.members import CHUNK_BYTES, Damaged, Member, Refused

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX_COMMENT = 0xFFFF
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_PATCH = 0x0020
_UTF8 = 0x0800
_ZIP64_FIELD = 0x0001


@dataclass(frozen=True)
class _Entry:
    """A row of the central directory; position: of its local header in the joined parts."""

    name: str
    raw_name: bytes
    method: int
    crc: int
    packed: int
    size: int
    position: int
    is_folder: bool


@dataclass(frozen=True)
class _Directory:
    """Where the central directory lies in the joined parts."""

    position: int
    length: int
    num_entries: int


class ZipArchive:
    """A zip file, see `pipelines.io.members.Archive`. path: the last part when split."""

    def __init__(self, path: Path) -> None:
        self._parts = _Parts(find_parts(path))
        try:
            self.packed_bytes = self._parts.size
            self._directory = _find_directory(self._parts)
            self.total_bytes: int | None = self._survey()
        except BaseException:
            self._parts.close()
            raise

    def __enter__(self) -> ZipArchive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._parts.close()

    def members(self) -> Iterator[Member]:
        """The entries in the order of the directory."""
        for entry in self._entries():

            def read(entry: _Entry = entry) -> Iterator[bytes]:
                return self._content(entry)

            yield Member(entry.name, entry.is_folder, entry.size, read)

    def _survey(self) -> int:
        """Read the whole directory once; returns the unpacked size of all files."""
        starts, ends, total = array("Q"), array("Q"), 0
        for entry in self._entries():
            end = entry.position + _LOCAL.size + len(entry.raw_name) + entry.packed
            if end > self._directory.position:
                raise Damaged(f"{entry.name[:100]!a} reaches beyond the end")
            starts.append(entry.position)
            ends.append(end)
            total += entry.size
        order = sorted(range(len(starts)), key=starts.__getitem__)
        for before, after in pairwise(order):
            if ends[before] > starts[after]:
                raise Refused("its entries overlap")
        # Some writers keep the count modulo 65536 although there are more entries.
        if len(starts) & 0xFFFF != self._directory.num_entries & 0xFFFF:
            raise Damaged("its directory does not list as many entries as it says")
        return total

    def _entries(self) -> Iterator[_Entry]:
        position, end = self._directory.position, self._directory.position + self._directory.length
        while position < end:
            fields = _ENTRY.unpack(self._parts.read(position, _ENTRY.size))
            if fields[0] != b"PK\x01\x02":
                raise Damaged("its directory is broken")
            name_bytes, extra_bytes, comment_bytes = fields[10:13]
            tail = self._parts.read(position + _ENTRY.size, name_bytes + extra_bytes)
            yield self._entry(fields, tail[:name_bytes], tail[name_bytes:])
            position += _ENTRY.size + name_bytes + extra_bytes + comment_bytes
        if position != end:
            raise Damaged("its directory is broken")

    def _entry(self, fields: tuple[int, ...], raw_name: bytes, extra: bytes) -> _Entry:
        flags, method, crc = fields[3], fields[4], fields[7]
        packed, size, disk, offset = _with_zip64(
            fields[8], fields[9], fields[13], fields[16], extra
        )
        name = _decoded(raw_name, flags)
        shown = ascii(name[:100])
        if flags & _ENCRYPTED:
            raise Refused(f"{shown} is encrypted")
        if flags & _PATCH or method not in (_STORED, _DEFLATED):
            raise Refused(f"{shown} is packed by a method that is not supported ({method})")
        if method == _STORED and packed != size:
            raise Damaged(f"the two sizes of {shown} differ")
        is_folder = name.endswith("/")
        _check_type(shown, fields[15] >> 16, is_folder=is_folder)
        if is_folder and size:
            raise Damaged(f"the folder {shown} has content")
        position = self._parts.absolute(disk, offset)
        return _Entry(name, raw_name, method, crc, packed, size, position, is_folder)

    def _content(self, entry: _Entry) -> Iterator[bytes]:
        header = _LOCAL.unpack(self._parts.read(entry.position, _LOCAL.size))
        name_bytes, extra_bytes = header[9], header[10]
        start = entry.position + _LOCAL.size
        if header[0] != b"PK\x03\x04" or header[3] != entry.method:
            raise Damaged(f"the header of {entry.name[:100]!a} is broken")
        if self._parts.read(start, name_bytes) != entry.raw_name:
            raise Refused(f"{entry.name[:100]!a} has another name in its header")
        packed = self._parts.stream(start + name_bytes + extra_bytes, entry.packed)
        pieces = packed if entry.method == _STORED else _inflate(packed, entry)
        crc = 0
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
            yield piece
        if crc != entry.crc:
            raise Damaged(f"the checksum of {entry.name[:100]!a} is wrong")


def _inflate(packed: Iterator[bytes], entry: _Entry) -> Iterator[bytes]:
    unpacker, left = zlib.decompressobj(-zlib.MAX_WBITS), entry.size
    shown = ascii(entry.name[:100])
    for data in packed:
        while data:
            try:
                piece = unpacker.decompress(data, CHUNK_BYTES)
            except zlib.error as problem:
                raise Damaged(f"{shown} cannot be unpacked ({problem})") from problem
            left -= len(piece)
            if left < 0:
                raise Refused(f"{shown} is longer than announced")
            yield piece
            if unpacker.eof:
                break
            data = unpacker.unconsumed_tail
    # A full output piece may have left bytes inside the unpacker after the last input.
    while not unpacker.eof and (piece := unpacker.decompress(b"", CHUNK_BYTES)):
        left -= len(piece)
        if left < 0:
            raise Refused(f"{shown} is longer than announced")
        yield piece
    if left or not unpacker.eof or unpacker.unused_data:
        raise Damaged(f"{shown} is not as long as announced")


class _Parts:
    """The files of an archive, read as if they were one."""

    def __init__(self, paths: list[Path]) -> None:
        self._files = [path.open("rb") for path in paths]
        sizes = [os.fstat(file.fileno()).st_size for file in self._files]
        self.starts = [0, *accumulate(sizes)][:-1]
        self.size = sum(sizes)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def absolute(self, disk: int, offset: int) -> int:
        if disk >= len(self.starts):
            raise Damaged(f"an entry points to part {disk + 1} of {len(self.starts)}")
        return self.starts[disk] + offset

    def read(self, position: int, count: int) -> bytes:
        """Exactly `count` bytes, which may lie in several files."""
        if position < 0 or position + count > self.size:
            raise Damaged("it is cut short")
        pieces = []
        while count:
            index = bisect_right(self.starts, position) - 1
            piece = os.pread(self._files[index].fileno(), count, position - self.starts[index])
            if not piece:
                raise Damaged("it is cut short")
            pieces.append(piece)
            position += len(piece)
            count -= len(piece)
        return b"".join(pieces)

    def stream(self, position: int, count: int) -> Iterator[bytes]:
        """`count` bytes in pieces."""
        while count:
            piece = self.read(position, min(count, CHUNK_BYTES))
            position += len(piece)
            count -= len(piece)
            yield piece


def is_last_zip_part(path: Path) -> bool:
    """Whether a file ends like a zip although it does not begin like one: the last of several."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _END.size - _MAX_COMMENT))
        return b"PK\x05\x06" in stream.read()


def find_parts(path: Path) -> list[Path]:
    """The files of an archive in order, `path` last. Raises Damaged when one is missing."""
    parts = _Parts([path])
    try:
        end = _END.unpack(parts.read(_find_end(parts), _END.size))
    finally:
        parts.close()
    found = []
    for number in range(1, end[1] + 1):
        names = [path.with_suffix(f".{letter}{number:02d}") for letter in "zZ"]
        present = next((name for name in names if name.is_file()), None)
        if present is None:
            raise Damaged(f"its part '{names[0].name}' is missing ({end[1] + 1} parts in all)")
        found.append(present)
    return [*found, path]


def _find_end(parts: _Parts) -> int:
    """The position of the end record, whose comment reaches exactly to the end of the file."""
    first = max(0, parts.size - _END.size - _MAX_COMMENT)
    tail = parts.read(first, parts.size - first)
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if at + _END.size <= len(tail):
            comment_bytes = int.from_bytes(tail[at + 20 : at + 22], "little")
            if at + _END.size + comment_bytes == len(tail):
                return first + at
        at = tail.rfind(b"PK\x05\x06", 0, at)
    raise Damaged("it has no end, so it is cut short or no zip")


def _find_directory(parts: _Parts) -> _Directory:
    end_position = _find_end(parts)
    end = _END.unpack(parts.read(end_position, _END.size))
    disk, num_entries, length, offset = end[2], end[4], end[5], end[6]
    limit = end_position
    locator_position = end_position - _LOCATOR_64.size
    if locator_position >= 0:
        locator = _LOCATOR_64.unpack(parts.read(locator_position, _LOCATOR_64.size))
        if locator[0] == b"PK\x06\x07":
            limit = parts.absolute(locator[1], locator[2])
            record = _END_64.unpack(parts.read(limit, _END_64.size))
            if record[0] != b"PK\x06\x06":
                raise Damaged("its end record is broken")
            disk, num_entries, length, offset = record[5], record[7], record[8], record[9]
    position = parts.absolute(disk, offset)
    if position + length != limit:
        raise Damaged("its directory is not where it should be")
    return _Directory(position, length, num_entries)


def _with_zip64(
    packed: int, size: int, disk: int, offset: int, extra: bytes
) -> tuple[int, int, int, int]:
    """The four numbers of an entry, those that did not fit taken from the zip64 field."""
    field = _extra_field(extra, _ZIP64_FIELD)
    values, place = [], 0
    for value, full, width in (
        (size, 0xFFFFFFFF, 8),
        (packed, 0xFFFFFFFF, 8),
        (offset, 0xFFFFFFFF, 8),
        (disk, 0xFFFF, 4),
    ):
        if value == full and field is not None:
            raw = field[place : place + width]
            if len(raw) < width:
                raise Damaged("a zip64 field is too short")
            value, place = int.from_bytes(raw, "little"), place + width
        values.append(value)
    return values[1], values[0], values[3], values[2]


def _extra_field(extra: bytes, wanted: int) -> bytes | None:
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == wanted:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return None


def _check_type(shown: str, mode: int, *, is_folder: bool) -> None:
    """Refuse what Unix archivers store besides files and folders; `mode` is 0 when not stored."""
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        raise Refused(f"{shown} is a symbolic link")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR and not is_folder):
        raise Refused(f"{shown} is neither a file nor a folder")


def _decoded(raw: bytes, flags: int) -> str:
    if flags & _UTF8:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Refused(f"the name {raw[:100]!a} is not text") from None
    return raw.decode("cp437")
