"""TFRecord files of tf.train.Example messages, read without TensorFlow.

A file repeats: length (8 bytes), checksum of the length, record, checksum of the record; numbers
are little-endian, checksums are masked CRC-32C. A record is a protobuf message of named features.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.io.crc32c import masked_crc32c

Feature: TypeAlias = list[bytes] | np.ndarray
"""The values of a feature: byte strings, or float32 [n], or int64 [n]."""

MAX_RECORD_BYTES = 2**31
_HEADER_BYTES, _CRC_BYTES = 12, 4


class DamagedRecord(UserError):
    """A record, or the rest of a file, that is not as it was written."""


@dataclass(frozen=True)
class RecordPlace:
    """Where a record lies: its number in the file, its first byte and its length."""

    number: int
    first_byte: int
    num_bytes: int


def record_places(path: Path) -> Iterator[RecordPlace]:
    """The records of a file in order; only their lengths are read.

    Raises DamagedRecord after the last whole record where the file does not end with one, or where
    a length is wrong, which makes the rest unreadable.
    """
    size = path.stat().st_size
    at, number = 0, 0
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            header = file.read(_HEADER_BYTES)
            if len(header) < _HEADER_BYTES:
                raise _cut_off(path, number, size - at)
            length, checksum = struct.unpack("<QI", header)
            if masked_crc32c(header[:8]) != checksum or length > MAX_RECORD_BYTES:
                raise _damaged(path, number, "the checksum of its length is wrong", "the rest")
            end = at + _HEADER_BYTES + length + _CRC_BYTES
            if end > size:
                raise _cut_off(path, number, size - at)
            yield RecordPlace(number, at + _HEADER_BYTES, length)
            at, number = end, number + 1


def read_record(path: Path, place: RecordPlace) -> bytes:
    """The bytes of a record. Raises DamagedRecord where its checksum is wrong."""
    with path.open("rb") as file:
        file.seek(place.first_byte)
        data = file.read(place.num_bytes)
        checksum = file.read(_CRC_BYTES)
    if len(data) < place.num_bytes or len(checksum) < _CRC_BYTES:
        raise _cut_off(path, place.number, len(data))
    if masked_crc32c(data) != struct.unpack("<I", checksum)[0]:
        raise _damaged(path, place.number, "its checksum is wrong", "this record")
    return data


def parse_example(data: bytes) -> dict[str, Feature]:
    """Feature name -> values of a tf.train.Example. Raises ValueError where it is not one."""
    features: dict[str, Feature] = {}
    view = memoryview(data)
    for number, message in _fields(view):
        if number != 1 or isinstance(message, int):
            continue
        for kind, entry in _fields(message):
            if kind == 1 and not isinstance(entry, int):
                name, values = _entry(entry)
                features[name] = values
    return features


def frames_of(
    features: Mapping[str, Feature], name: str, shape: tuple[int, int, int]
) -> np.ndarray:
    """Raw images stored as name.format(t=0), ...: uint8 [T H W 3]. Raises ValueError."""
    frames: list[np.ndarray] = []
    while (key := name.format(t=len(frames))) in features:
        values = features[key]
        expected = int(np.prod(shape))
        if not isinstance(values, list) or len(values) != 1 or len(values[0]) != expected:
            raise ValueError(f"{key} is not one string of {expected} bytes")
        frames.append(np.frombuffer(values[0], np.uint8).reshape(shape))
    if not frames:
        raise ValueError(f"there is no {name.format(t=0)}")
    return np.stack(frames)


def numbers_of(features: Mapping[str, Feature], name: str, *, count: int, size: int) -> np.ndarray:
    """Numbers stored as name.format(t=0), ... for count steps: float32 [count size].

    Raises ValueError where one is missing or of another size.
    """
    rows = []
    for t in range(count):
        values = features.get(name.format(t=t))
        if not isinstance(values, np.ndarray) or len(values) != size:
            raise ValueError(f"{name.format(t=t)} does not hold {size} numbers")
        rows.append(values)
    return np.stack(rows).astype(np.float32)


def _entry(data: memoryview) -> tuple[str, Feature]:
    """An entry of the map of features: key and value."""
    name = ""
    values: Feature = []
    for number, content in _fields(data):
        if number == 1 and not isinstance(content, int):
            name = bytes(content).decode("utf-8")
        elif number == 2 and not isinstance(content, int):
            for kind, each in _fields(content):
                values = _values(kind, each)
    return name, values


def _values(kind: int, content: memoryview | int) -> Feature:
    """A list of bytes (1), floats (2) or integers (3)."""
    if isinstance(content, int) or kind not in (1, 2, 3):
        raise ValueError("a feature is not a list")
    items = [each for number, each in _fields(content) if number == 1]
    if kind == 1:
        return [bytes(each) for each in items if not isinstance(each, int)]
    if kind == 2:
        # Packed, or each number in a field of its own: four bytes either way.
        joined = b"".join(bytes(each) for each in items if not isinstance(each, int))
        return np.frombuffer(joined, "<f4")
    packed = [number for each in items for number in _integers(each)]
    return np.array(packed, np.uint64).astype(np.int64)


def _integers(content: memoryview | int) -> Iterator[int]:
    if isinstance(content, int):
        yield content
        return
    at = 0
    while at < len(content):
        value, at = _varint(content, at)
        yield value


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """(field number, content) of a protobuf message. Raises ValueError where it is cut off."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        else:
            length = {1: 8, 5: 4}.get(wire, -1)
        if length < 0 or at + length > len(data):
            raise ValueError("the message is cut off or of another kind")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number in the message is cut off")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _cut_off(path: Path, number: int, num_bytes: int) -> DamagedRecord:
    return _damaged(
        path, number, f"the file ends after {num_bytes:,} bytes of it", "this record and all after"
    )


def _damaged(path: Path, number: int, reason: str, lost: str) -> DamagedRecord:
    return DamagedRecord(
        f"record {number} of '{path.name}' is damaged",
        {"path": path, "reason": reason, "lost": lost, "to fix": "get the file again"},
        EXIT_NO_DATA,
    )
