"""Flow in the files that other programs read: .npy, .flo (Middlebury), 16-bit .png (KITTI).

In memory flow is float32 [2 H W] in pixels, x (right) then y (down), nan where it is not known.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Literal

import numpy as np

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import atomic_writer

Format = Literal["npy", "flo", "kitti"]
SUFFIXES: dict[Format, str] = {"npy": ".flow.npy", "flo": ".flo", "kitti": ".png"}
"""How the names of files end, by format; flow as .npy has an ending of its own where published."""

MAX_PIXELS = 100_000_000
"""A larger file is refused: a few bytes can claim any size."""

_FLO_MAGIC = b"PIEH"
_FLO_UNKNOWN = 1e10
_FLO_LARGEST = 1e7
"""Readers take anything longer for unknown; some writers use 1e9, some 1e10."""
_KITTI_STEPS, _KITTI_ZERO = 64, 2**15
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_COLOUR_16 = (16, 2, 0, 0, 0)
"""Bits, colour type RGB, compression, filter method, no interlace."""


def read_flow(path: Path) -> np.ndarray:
    """Flow from a .npy, .flo or .png file, by its ending: float32 [2 H W].

    Raises UserError with exit code 4, with the name of the file and what is wrong with it.
    """
    readers: dict[str, Callable[[Path], np.ndarray]] = {
        ".npy": read_npy,
        ".flo": read_flo,
        ".png": read_kitti,
    }
    if path.suffix.lower() not in readers:
        raise _unreadable(path, f"the ending is none of {', '.join(readers)}")
    return readers[path.suffix.lower()](path)


def write_flow(path: Path, flow: np.ndarray, *, form: Format) -> None:
    """Write float32 [2 H W] in one of the formats, whole or not at all."""
    writers = {"npy": write_npy, "flo": write_flo, "kitti": write_kitti}
    writers[form](path, flow)


def read_npy(path: Path) -> np.ndarray:
    """A float array [2 H W] as numpy saves it."""
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, EOFError) as problem:
        raise _unreadable(path, str(problem)) from problem
    is_flow = isinstance(array, np.ndarray) and array.ndim == 3 and array.shape[0] == 2
    if not is_flow or array.dtype.kind != "f" or not array.size:
        shape = getattr(array, "shape", "no array")
        raise _unreadable(path, f"{shape} {getattr(array, 'dtype', '')} is not float [2 H W]")
    return np.asarray(array, np.float32)


def write_npy(path: Path, flow: np.ndarray) -> None:
    """Write float32 [2 H W]; nan stays nan."""
    with atomic_writer(path, "wb") as file:
        np.save(file, np.asarray(flow, np.float32))


def read_flo(path: Path) -> np.ndarray:
    """A Middlebury .flo file: little-endian width, height, then (u, v) for each pixel."""
    data = _bytes_of(path)
    if data[:4] != _FLO_MAGIC:
        raise _unreadable(path, "it does not begin with PIEH, as a .flo file does")
    if len(data) < 12:
        raise _unreadable(path, "the file ends within its header")
    width, height = struct.unpack_from("<ii", data, 4)
    if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
        raise _unreadable(path, f"a size of {width} x {height} pixels")
    expected = 12 + 8 * width * height
    if len(data) < expected:
        raise _unreadable(path, f"{len(data):,} bytes, but {width} x {height} needs {expected:,}")
    values = np.frombuffer(data, "<f4", 2 * width * height, 12).reshape(height, width, 2)
    flow = values.transpose(2, 0, 1).astype(np.float32)
    is_known = (np.abs(flow) <= _FLO_LARGEST).all(axis=0)
    return np.where(is_known, flow, np.float32(np.nan))


def write_flo(path: Path, flow: np.ndarray) -> None:
    """Write a Middlebury .flo file; what is not known is 1e10."""
    _, height, width = flow.shape
    is_known = np.isfinite(flow).all(axis=0)
    values = np.where(is_known, flow, _FLO_UNKNOWN).transpose(1, 2, 0).astype("<f4")
    with atomic_writer(path, "wb") as file:
        file.write(_FLO_MAGIC + struct.pack("<ii", width, height))
        file.write(np.ascontiguousarray(values).tobytes())


def read_kitti(path: Path) -> np.ndarray:
    """A KITTI flow map: 16-bit RGB, 64 u + 2^15, 64 v + 2^15, is known."""
    pixels = _read_png16(path)
    flow = (pixels[..., :2].astype(np.float32) - _KITTI_ZERO) / _KITTI_STEPS
    is_known = pixels[..., 2] != 0
    return np.where(is_known, flow.transpose(2, 0, 1), np.float32(np.nan)).astype(np.float32)


def write_kitti(path: Path, flow: np.ndarray) -> None:
    """Write a KITTI flow map, in steps of 1/64 pixel; beyond 512 pixels it is not known."""
    steps = np.round(np.nan_to_num(flow.astype(np.float64), nan=0.0) * _KITTI_STEPS) + _KITTI_ZERO
    fits = np.isfinite(flow).all(axis=0) & ((steps >= 0) & (steps < 2**16)).all(axis=0)
    stored = np.where(fits, steps, 0).astype(np.uint16)
    pixels = np.stack([*stored, fits.astype(np.uint16)], axis=-1)
    height, width = fits.shape
    lines = pixels.astype(">u2").view(np.uint8).reshape(height, 6 * width)
    up = lines - np.concatenate([np.zeros_like(lines[:1]), lines[:-1]])
    filtered = np.concatenate([np.full((height, 1), 2, np.uint8), up], axis=1)
    header = struct.pack(">II5B", width, height, *_COLOUR_16)
    with atomic_writer(path, "wb") as file:
        file.write(_PNG_MAGIC)
        _write_chunk(file, b"IHDR", header)
        _write_chunk(file, b"IDAT", zlib.compress(filtered.tobytes(), 6))
        _write_chunk(file, b"IEND", b"")


def _write_chunk(file: IO[bytes], kind: bytes, data: bytes) -> None:
    crc32 = zlib.crc32(kind + data)
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32))


def _read_png16(path: Path) -> np.ndarray:
    """uint16 [H W 3]. Pillow reads such files with 8 bits only."""
    data = _bytes_of(path)
    if not data.startswith(_PNG_MAGIC):
        raise _unreadable(path, "it is not a PNG file")
    header, packed = b"", []
    for kind, content in _chunks(path, data):
        if kind == b"IHDR":
            header = content
        elif kind == b"IDAT":
            packed.append(content)
    if len(header) != 13:
        raise _unreadable(path, "the file has no header")
    width, height, *form = struct.unpack(">II5B", header)
    if tuple(form) != _COLOUR_16:
        raise _unreadable(path, "a KITTI flow map has three channels of 16 bits, not interlaced")
    if not width or not height or width * height > MAX_PIXELS:
        raise _unreadable(path, f"a size of {width} x {height} pixels")
    line_bytes = 1 + 6 * width
    try:
        raw = zlib.decompressobj().decompress(b"".join(packed), height * line_bytes)
    except zlib.error as problem:
        raise _unreadable(path, str(problem)) from problem
    if len(raw) != height * line_bytes:
        raise _unreadable(path, "the file ends early")
    lines = np.frombuffer(raw, np.uint8).reshape(height, line_bytes)
    pixels = _unfiltered(path, lines)
    return pixels.view(">u2").reshape(height, width, 3).astype(np.uint16)


def _chunks(path: Path, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_PNG_MAGIC)
    while place + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        check = data[place + 8 + size : place + 12 + size]
        if len(check) < 4 or struct.pack(">I", zlib.crc32(kind + content)) != check:
            raise _unreadable(path, f"its part {kind.decode('latin-1')} is damaged")
        yield kind, content
        if kind == b"IEND":
            return
        place += 12 + size


def _unfiltered(path: Path, lines: np.ndarray) -> np.ndarray:
    """PNG's prediction undone: uint8 [H, 1 + bytes] -> uint8 [H, bytes]."""
    above = np.zeros(lines.shape[1] - 1, np.uint8)
    plain = np.empty((len(lines), len(above)), np.uint8)
    for number, line in enumerate(lines):
        kind, values = int(line[0]), line[1:]
        if kind == 0:
            above = values
        elif kind == 1:
            above = np.cumsum(values.reshape(-1, 6), axis=0, dtype=np.uint8).reshape(-1)
        elif kind == 2:
            above = values + above
        elif kind in (3, 4):
            above = _predicted_bytewise(values, above, _average if kind == 3 else _paeth)
        else:
            raise _unreadable(path, f"line {number} has the unknown filter {kind}")
        plain[number] = above
    return plain


def _predicted_bytewise(
    values: np.ndarray, above: np.ndarray, predict: Callable[[int, int, int], int]
) -> np.ndarray:
    """Lines whose every byte depends on the one before: byte by byte."""
    done, upper = [0] * 6, [0] * 6 + above.tolist()
    for number, value in enumerate(values.tolist(), 6):
        guess = predict(done[number - 6], upper[number], upper[number - 6])
        done.append((value + guess) & 255)
    return np.array(done[6:], np.uint8)


def _average(left: int, up: int, _: int) -> int:
    return (left + up) >> 1


def _paeth(left: int, up: int, corner: int) -> int:
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as problem:
        raise _unreadable(path, str(problem)) from problem


def _missing(path: Path) -> UserError:
    return UserError(
        f"no flow file '{path.name}'",
        {"looked in": path.parent, "to fix": "check the path"},
        EXIT_NO_DATA,
    )


def _unreadable(path: Path, reason: str) -> UserError:
    return UserError(
        f"cannot read flow from '{path.name}'",
        {"path": path, "reason": reason, "to fix": "write the file again"},
        EXIT_NO_DATA,
    )
