"""Writes zip and tar archives field by field, also ones that no honest program would write."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class ZipRow:
    """One zip entry; a field that is None is filled with the true value."""

    name: bytes | str
    content: bytes = b""
    method: int = 0
    flags: int = 0x0800
    mode: int = 0o100644
    crc: int | None = None
    packed: int | None = None
    size: int | None = None
    local_name: bytes | None = None
    offset: int | None = None
    disk: int = 0
    zip64: bool = False
    data: bytes | None = None

    def raw_name(self) -> bytes:
        return self.name.encode("utf-8") if isinstance(self.name, str) else self.name

    def raw_data(self) -> bytes:
        if self.data is not None:
            return self.data
        if self.method != 8:
            return self.content
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(self.content) + packer.flush()


@dataclass
class ZipMaker:
    """A zip written by the book, with knobs for writing it otherwise."""

    rows: list[ZipRow] = field(default_factory=list)
    prefix: bytes = b""
    comment: bytes = b""
    zip64_end: bool = False
    num_entries: int | None = None
    directory_offset: int | None = None
    directory_length: int | None = None

    def built(self) -> bytes:
        body, directory = bytearray(self.prefix), bytearray()
        for row in self.rows:
            offset = len(body) if row.offset is None else row.offset
            data, name = row.raw_data(), row.raw_name()
            crc = zlib.crc32(row.content) if row.crc is None else row.crc
            packed = len(data) if row.packed is None else row.packed
            size = len(row.content) if row.size is None else row.size
            local = name if row.local_name is None else row.local_name
            body += self._local(row, local, crc, packed, size) + data
            directory += self._entry(row, name, crc, packed, size, offset)
        at = len(body)
        body += directory
        body += self._end(at, len(directory))
        return bytes(body)

    def write(self, path: Path) -> Path:
        path.write_bytes(self.built())
        return path

    def _local(self, row: ZipRow, name: bytes, crc: int, packed: int, size: int) -> bytes:
        small = min(packed, 0xFFFFFFFF), min(size, 0xFFFFFFFF)
        return (
            struct.pack(
                "<4s5H3L2H",
                b"PK\x03\x04",
                20,
                row.flags,
                row.method,
                0,
                0,
                crc,
                *small,
                len(name),
                0,
            )
            + name
        )

    def _entry(
        self, row: ZipRow, name: bytes, crc: int, packed: int, size: int, offset: int
    ) -> bytes:
        extra = b""
        if row.zip64 or max(packed, size, offset) >= 0xFFFFFFFF:
            extra = struct.pack("<2H3Q", 1, 24, size, packed, offset)
            packed = size = offset = 0xFFFFFFFF
        return struct.pack(
            "<4s6H3L5H2L",
            b"PK\x01\x02", 0x0314, 20, row.flags, row.method, 0, 0, crc, packed, size,
            len(name), len(extra), 0, row.disk, 0, row.mode << 16, offset,
        ) + name + extra  # fmt: skip

    def _end(self, at: int, length: int) -> bytes:
        count = len(self.rows) if self.num_entries is None else self.num_entries
        offset = at if self.directory_offset is None else self.directory_offset
        size = length if self.directory_length is None else self.directory_length
        records = b""
        if self.zip64_end:
            records += struct.pack(
                "<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset
            )
            records += struct.pack("<4sLQL", b"PK\x06\x07", 0, at + length, 1)
            count, size, offset = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF
        return (
            records
            + struct.pack(
                "<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, offset, len(self.comment)
            )
            + self.comment
        )


def zip_of(*rows: ZipRow, **knobs: object) -> bytes:
    """The bytes of a zip with these entries."""
    return ZipMaker(list(rows), **knobs).built()  # type: ignore[arg-type]


def split_zip(
    files: dict[str, bytes], path: Path, *, part_bytes: int, method: int = 8
) -> list[Path]:
    """Write a split zip by the rule of the format: a marker, then parts cut anywhere in the data.

    Local headers are never cut, as the format demands.
    Returns the parts in order; the last is `path`.
    """
    parts, directory = [bytearray(b"PK\x07\x08")], bytearray()

    def put(data: bytes, *, whole: bool) -> tuple[int, int]:
        if whole and len(parts[-1]) + len(data) > part_bytes:
            parts.append(bytearray())
        place = len(parts) - 1, len(parts[-1])
        while data:
            room = part_bytes - len(parts[-1])
            if room <= 0 and not whole:
                parts.append(bytearray())
                continue
            taken = data if whole else data[:room]
            parts[-1].extend(taken)
            data = data[len(taken) :]
        return place

    maker = ZipMaker()
    for name, content in files.items():
        row = ZipRow(name, content, method)
        data, crc = row.raw_data(), zlib.crc32(content)
        raw = row.raw_name()
        disk, offset = put(maker._local(row, raw, crc, len(data), len(content)), whole=True)
        put(data, whole=False)
        row.disk = disk
        directory += maker._entry(row, raw, crc, len(data), len(content), offset)
    directory_disk, directory_offset = put(bytes(directory), whole=False)
    put(
        struct.pack(
            "<4s4H2LH", b"PK\x05\x06", len(parts) - 1, directory_disk, len(files), len(files),
            len(directory), directory_offset, 0,
        ),
        whole=False,
    )  # fmt: skip
    paths = [path.with_suffix(f".z{number:02d}") for number in range(1, len(parts))] + [path]
    for part, place in zip(parts, paths, strict=True):
        place.write_bytes(part)
    return paths


def honest_zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip as Python's own library writes it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def honest_tar(
    files: dict[str, bytes], *, mode: str = "w:gz", format: int = tarfile.PAX_FORMAT
) -> bytes:
    """A tar as Python's own library writes it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, format=format) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def tar_header(
    name: str | bytes,
    size: int | bytes = 0,
    kind: bytes = b"0",
    *,
    link: str = "",
    prefix: bytes = b"",
) -> bytes:
    """One ustar header; a size of bytes is put into its field as it is."""
    raw = name.encode() if isinstance(name, str) else name
    field = size if isinstance(size, bytes) else b"%011o\x00" % size
    header = bytearray(512)
    header[0 : len(raw[:100])] = raw[:100]
    header[100:108], header[108:116], header[116:124] = (
        b"0000644\x00",
        b"0000000\x00",
        b"0000000\x00",
    )
    header[124:136], header[136:148] = field.ljust(12, b"\x00"), b"00000000000\x00"
    header[156:157] = kind
    header[157 : 157 + len(link)] = link.encode()
    header[257:265] = b"ustar\x0000"
    header[345 : 345 + len(prefix)] = prefix
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\x00 " % sum(header)
    return bytes(header)


def tar_entry(
    name: str | bytes, content: bytes = b"", kind: bytes = b"0", **fields: object
) -> bytes:
    """A header and its content, padded."""
    header = tar_header(name, fields.pop("size", len(content)), kind, **fields)  # type: ignore[arg-type]
    return header + content + bytes(-len(content) % 512)


def pax_entry(records: dict[str, str]) -> bytes:
    """A pax header for the entry that follows."""
    payload = b""
    for key, value in records.items():
        body = f" {key}={value}\n".encode()
        length = len(body) + 1
        while len(str(length)) + len(body) != length:
            length = len(str(length)) + len(body)
        payload += str(length).encode() + body
    return tar_entry("pax", payload, b"x")


def tar_of(*entries: bytes) -> bytes:
    """A tar of these entries with its end."""
    return b"".join(entries) + bytes(1024)


def gzipped(data: bytes) -> bytes:
    """Data as a gzip stream."""
    return gzip.compress(data)
