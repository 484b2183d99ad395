from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.events import UserError
from pipelines.io.images import contact_sheet, image_size, read_image, write_png

COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [250, 250, 250]]], np.uint8)


def _saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def test_a_colour_image_comes_as_it_is(tmp_path: Path) -> None:
    path = _saved(tmp_path / "x.png", Image.fromarray(COLOURS))
    assert np.array_equal(read_image(path), COLOURS)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    levels = np.arange(0, 250, 10, dtype=np.uint8).reshape(5, 5)
    path = _saved(tmp_path / "grey.png", Image.fromarray(levels))
    assert np.array_equal(read_image(path), np.repeat(levels[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_places_are_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    image.paste((200, 200, 200, 255), (0, 0, 2, 2))
    read = read_image(_saved(tmp_path / "clear.png", image.convert(mode)))
    assert (read[:, :2] == 200).all() and (read[:, 2:] == 255).all()


def test_half_transparent_is_half_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 128))
    assert abs(int(read_image(_saved(tmp_path / "half.png", image))[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_is_scaled_to_eight(tmp_path: Path, suffix: str) -> None:
    levels = np.array([[0, 257 * 7, 65535], [257 * 128, 256, 32896]], np.uint16)
    read = read_image(_saved(tmp_path / f"deep.{suffix}", Image.fromarray(levels)))
    assert read[..., 0].tolist() == [[0, 7, 255], [128, 1, 128]]


@pytest.mark.parametrize("mode", ["P", "CMYK", "1", "YCbCr"])
def test_other_colour_models_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (8, 8), "white").convert(mode)
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    read = read_image(_saved(tmp_path / f"x.{suffix}", image))
    assert read.shape == (8, 8, 3) and read.min() > 250


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    scene = np.zeros((16, 24, 3), np.uint8)
    scene[:8, :8] = 255  # top left, when upright
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](scene)))
    path = _saved(tmp_path / "photo.png", stored, exif=exif)
    assert np.array_equal(read_image(path), scene)
    assert image_size(path) == (24, 16)


@pytest.mark.parametrize("size", [(200, 50), (3, 5), (64, 64)])
@pytest.mark.parametrize("fit", ["squash", "center-crop", "pad"])
def test_any_size_becomes_the_size_asked_for(
    tmp_path: Path, size: tuple[int, int], fit: str
) -> None:
    path = _saved(tmp_path / "x.png", Image.new("RGB", size, (90, 120, 30)))
    read = read_image(path, size_px=64, fit=fit)  # type: ignore[arg-type]
    assert read.shape == (64, 64, 3)
    assert np.array_equal(read[32, 32], (90, 120, 30))
    has_border = fit == "pad" and size[0] != size[1]
    assert (read[0, 0].max() == 0) == has_border


def test_fine_detail_does_not_alias_when_shrunk(tmp_path: Path) -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    read = read_image(_saved(tmp_path / "x.png", Image.fromarray(stripes)), size_px=32)
    assert np.abs(read.astype(int) - 128).max() <= 6


def _cut_off(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:3000])


def _text(path: Path) -> None:
    path.write_text("no picture")


def _empty(path: Path) -> None:
    path.touch()


def _bomb(path: Path) -> None:
    """A PNG of a few bytes that says it is 40,000 x 40,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
    content = chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + content + chunk(b"IEND", b""))


def _floating(path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(path.with_suffix(".tif"))
    path.with_suffix(".tif").rename(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_cut_off, "truncated"),
        (_text, "not an image of a known format"),
        (_empty, "not an image of a known format"),
        (_bomb, "too many|exceeds limit"),
        (_floating, "floating-point"),
    ],
    ids=["cut off", "text", "empty", "bomb", "floating point"],
)
def test_an_unreadable_image_is_named_with_a_reason(
    tmp_path: Path, make: object, reason: str
) -> None:
    path = tmp_path / "bad one.png"
    make(path)  # type: ignore[operator]
    with pytest.raises(UserError, match=r"cannot read the image 'bad one\.png'") as caught:
        read_image(path)
    assert caught.value.exit_code == 4
    assert any(part in caught.value.details["reason"] for part in reason.split("|"))
    assert list(caught.value.details)[-1] == "to fix"


def test_asking_for_the_size_of_an_image_that_is_cut_off_names_it(tmp_path: Path) -> None:
    path = tmp_path / "bad one.png"
    _cut_off(path)
    with pytest.raises(UserError, match=r"cannot read the image 'bad one\.png'"):
        image_size(path)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no image 'x\.png'") as caught:
        read_image(tmp_path / "x.png")
    assert caught.value.exit_code == 4


def test_a_written_png_comes_back_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    write_png(tmp_path / "a" / "x.png", COLOURS)
    write_png(tmp_path / "a" / "grey.png", COLOURS[..., :1])
    assert np.array_equal(read_image(tmp_path / "a" / "x.png"), COLOURS)
    assert np.array_equal(read_image(tmp_path / "a" / "grey.png")[..., 0], COLOURS[..., 0])
    assert sorted(os.listdir(tmp_path / "a")) == ["grey.png", "x.png"]


def test_a_contact_sheet_shows_every_picture_in_its_row_and_column() -> None:
    rows = [
        [np.full((10, 12, 3), 40 * row + 10 * column, np.uint8) for column in range(3)]
        for row in range(2)
    ]
    sheet = contact_sheet(rows, gap_px=2)
    assert sheet.shape[1] == 2 + 3 * (12 + 2)
    for row in range(2):
        for column in range(3):
            assert (sheet == 40 * row + 10 * column).all(axis=2).sum() == 120
    found = [np.argwhere((sheet == value).all(axis=2))[0].tolist() for value in (0, 10, 40)]
    assert found[0][0] == found[1][0] < found[2][0] and found[0][1] == found[2][1] < found[1][1]


def test_labels_are_written_left_of_the_rows_and_above_the_columns() -> None:
    rows = [[np.full((20, 20, 1), 128, np.uint8)] for _ in range(2)]
    plain = contact_sheet(rows)
    labelled = contact_sheet(rows, ["first\nrow", "雪"], column_labels=["start"])
    assert labelled.shape[0] > plain.shape[0] and labelled.shape[1] > plain.shape[1]
    pictures = (labelled == 128).all(axis=2)
    left = np.argwhere(pictures)[:, 1].min()
    assert (labelled[:, : left - 1] < 100).any()
