"""Flow in .npy, .flo and KITTI files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.events import UserError
from pipelines.io.flow_files import SUFFIXES, read_flo, read_flow, read_kitti, write_flo, write_flow


@pytest.fixture
def flow() -> np.ndarray:
    """Steps of 1/64 pixel, so that every format keeps it exactly; some of it is not known."""
    values = np.random.default_rng(0).integers(-30000, 30000, (2, 7, 11)) / 64
    values[:, 2, 3:6] = np.nan
    return values.astype(np.float32)


@pytest.mark.parametrize("form", list(SUFFIXES))
def test_written_and_read_again_is_the_same(tmp_path: Path, flow: np.ndarray, form: Any) -> None:
    path = tmp_path / f"x{SUFFIXES[form]}"
    write_flow(path, flow, form=form)
    read = read_flow(path)
    assert read.dtype == np.float32
    assert np.array_equal(read, flow, equal_nan=True)


def test_flo_is_laid_out_as_middlebury_says(tmp_path: Path) -> None:
    flow = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    write_flo(tmp_path / "x.flo", flow)
    data = (tmp_path / "x.flo").read_bytes()
    assert struct.unpack_from("<f", data) == (202021.25,)
    assert struct.unpack_from("<ii", data, 4) == (3, 2)  # width, then height
    assert struct.unpack_from("<12f", data, 12) == (0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11)


def test_very_long_motion_in_flo_means_unknown(tmp_path: Path) -> None:
    values = struct.pack("<4f", 1, 2, 1.67e9, 0)
    (tmp_path / "x.flo").write_bytes(b"PIEH" + struct.pack("<ii", 2, 1) + values)
    read = read_flo(tmp_path / "x.flo")
    assert read[:, 0, 0].tolist() == [1, 2] and np.isnan(read[:, 0, 1]).all()


def test_motion_beyond_kittis_range_is_written_as_unknown(tmp_path: Path) -> None:
    flow = np.zeros((2, 1, 3), np.float32)
    flow[0, 0] = (511.5, 512.5, -513)
    write_flow(tmp_path / "x.png", flow, form="kitti")
    read = read_kitti(tmp_path / "x.png")
    assert read[0, 0, 0] == 511.5 and np.isnan(read[:, 0, 1:]).all()


def _png(
    lines: bytes, *, width: int, height: int, form: tuple[int, ...] = (16, 2, 0, 0, 0)
) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">II5B", width, height, *form)
    return b"".join(
        (b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)))
    ) + chunk(b"IEND", b"")


def _filtered(pixels: np.ndarray, kind: int) -> bytes:
    """PNG lines under one filter, by its definition, byte by byte."""
    raw = pixels.astype(">u2").view(np.uint8).reshape(len(pixels), -1).astype(int)
    lines = bytearray()
    for y, line in enumerate(raw):
        lines.append(kind)
        for x, value in enumerate(line):
            left = raw[y, x - 6] if x >= 6 else 0
            up = raw[y - 1, x] if y else 0
            corner = raw[y - 1, x - 6] if y and x >= 6 else 0
            nearest = min((left, up, corner), key=lambda each: abs(left + up - corner - each))
            guess = (0, left, up, (left + up) // 2, nearest)[kind]
            lines.append((value - guess) % 256)
    return bytes(lines)


@pytest.mark.parametrize("kind", range(5))
def test_every_filter_of_png_is_undone(tmp_path: Path, kind: int) -> None:
    pixels = np.random.default_rng(kind).integers(0, 2**16, (5, 4, 3), np.uint16)
    pixels[..., 2] = 1
    (tmp_path / "x.png").write_bytes(_png(_filtered(pixels, kind), width=4, height=5))
    expected = (pixels[..., :2].astype(np.float32) - 2**15) / 64
    assert np.array_equal(read_kitti(tmp_path / "x.png"), expected.transpose(2, 0, 1))


FLO_HEADER = b"PIEH" + struct.pack("<ii", 4, 3)
BAD = {
    "magic.flo": (b"HEIP" + bytes(200), "does not begin with PIEH"),
    "header.flo": (b"PIEH\x01", "ends within its header"),
    "short.flo": (FLO_HEADER + bytes(20), "32 bytes, but 4 x 3 needs 108"),
    "size.flo": (b"PIEH" + struct.pack("<ii", -4, 3) + bytes(99), "size of -4 x 3"),
    "huge.flo": (b"PIEH" + struct.pack("<ii", 2**30, 2**30), "1073741824 x 1073741824"),
    "text.npy": (b"hello", ""),
    "text.png": (b"hello", "not a PNG file"),
    "eight.png": (_png(bytes(39), width=4, height=3, form=(8, 2, 0, 0, 0)), "16 bits"),
    "early.png": (_png(bytes(30), width=4, height=3), "ends early"),
    "filter.png": (_png(b"\x09" + bytes(24), width=4, height=1), "unknown filter 9"),
    "torn.png": (_png(bytes(75), width=4, height=3)[:50], "damaged"),
    "x.txt": (b"", "none of .npy, .flo, .png"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    content, reason = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"cannot read flow from '{name}'") as caught:
        read_flow(tmp_path / name)
    assert caught.value.exit_code == 4
    assert reason in caught.value.details["reason"]


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4, 4), "f4"), np.zeros((2, 4, 4), int), np.float32(1)]
)
def test_an_array_that_is_no_flow_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(UserError, match=r"cannot read flow from 'x\.npy'"):
        read_flow(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["x.npy", "x.flo", "x.png"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"no flow file '{name}'"):
        read_flow(tmp_path / name)
