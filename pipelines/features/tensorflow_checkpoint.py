"""Reads the weights of a TensorFlow checkpoint without TensorFlow.

A checkpoint `<prefix>` is an index, `<prefix>.index`, which says where each tensor lies, and raw
values in `<prefix>.data-00000-of-00001` and on. The index is a sorted table: blocks of entries
whose keys share beginnings, a block that lists the blocks, and a footer with a magic number; its
values are protocol buffers. A SavedModel keeps such a checkpoint as `variables/variables`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipelines.events import UserError

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES, _BLOCK_TRAILER_BYTES = 48, 5
_FLOAT = 1
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class _Entry(NamedTuple):
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    num_bytes: int


def read_tensorflow_weights(prefix: Path) -> dict[str, Tensor]:
    """The float32 variables of a checkpoint, by name; others, such as step counters, are left out.

    Raises UserError when the files are missing, cut off or of another kind.
    """
    index_path = prefix.with_name(prefix.name + ".index")
    try:
        entries = dict(_entries(index_path.read_bytes()))
        num_shards = _num_shards(entries.pop(b"", b""))
        return dict(_tensors(prefix, entries, num_shards))
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise UserError(
            f"the TensorFlow weights '{prefix.name}' cannot be read",
            {"file": index_path, "reason": error, "to fix": "download them again"},
        ) from error


def _tensors(
    prefix: Path, entries: dict[bytes, bytes], num_shards: int
) -> Iterator[tuple[str, Tensor]]:
    shards = {}
    for key, value in entries.items():
        entry = _entry(value)
        if entry.dtype != _FLOAT:
            continue
        if entry.shard not in shards:
            name = f"{prefix.name}.data-{entry.shard:05d}-of-{num_shards:05d}"
            shards[entry.shard] = np.memmap(prefix.with_name(name), np.uint8, mode="r")
        data = shards[entry.shard][entry.offset : entry.offset + entry.num_bytes]
        values = np.frombuffer(bytes(data), "<f4").reshape(entry.shape)
        yield key.decode(), torch.from_numpy(values.copy())


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All keys and values of a sorted table."""
    footer = table[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise ValueError("it is not an index of tensors")
    _, place = _handle(footer, 0)
    index, _ = _handle(footer, place)
    for _, value in _block(table, *index):
        block, _ = _handle(value, 0)
        yield from _block(table, *block)


def _handle(data: bytes, place: int) -> tuple[tuple[int, int], int]:
    offset, place = _varint(data, place)
    size, place = _varint(data, place)
    return (offset, size), place


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block = table[offset : offset + size + _BLOCK_TRAILER_BYTES]
    if len(block) < size + _BLOCK_TRAILER_BYTES:
        raise ValueError("it is cut off")
    if block[size] != 0:
        raise ValueError("its blocks are compressed")
    (num_restarts,) = struct.unpack_from("<I", block, size - 4)
    end, place, key = size - 4 - 4 * num_restarts, 0, b""
    while place < end:
        shared, place = _varint(block, place)
        own, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + own]
        place += own
        yield key, block[place : place + length]
        place += length


def _num_shards(header: bytes) -> int:
    values = [value for number, value in _fields(header) if number == 1]
    return int(values[0]) if values and isinstance(values[0], int) else 1


def _entry(message: bytes) -> _Entry:
    numbers = {1: 0, 3: 0, 4: 0, 5: 0}
    shape: tuple[int, ...] = ()
    for number, value in _fields(message):
        if number == 7:
            raise ValueError("a variable is stored in slices")
        if number == 2 and isinstance(value, bytes):
            shape = tuple(_dimensions(value))
        elif number in numbers and isinstance(value, int):
            numbers[number] = value
    return _Entry(numbers[1], shape, numbers[3], numbers[4], numbers[5])


def _dimensions(message: bytes) -> Iterator[int]:
    for number, value in _fields(message):
        if number == 2 and isinstance(value, bytes):
            sizes = [size for inner, size in _fields(value) if inner == 1]
            yield int(sizes[0]) if sizes and isinstance(sizes[0], int) else 0


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol buffer."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield tag >> 3, value
        elif kind == _LENGTH:
            length, place = _varint(message, place)
            yield tag >> 3, message[place : place + length]
            place += length
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("an entry is not a protocol buffer")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
        shift += 7
