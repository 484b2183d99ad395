"""Frames kept as JPEG, and variants without frames: same rows, same checks, less space."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.events import UserError
from pipelines.files import read_json, write_json
from pipelines.io.jpeg_frames import JpegFrames, encode
from pipelines.io.packed import PackedVideos
from pipelines.io.packing import PackWriter, Row

SIZE = 24
LENGTHS = (5, 3, 7, 4)


def _frames(number: int, channels: int = 3) -> np.ndarray:
    """Smooth pictures that move, as films are."""
    y, x = np.mgrid[:SIZE, :SIZE]
    t = np.arange(LENGTHS[number])[:, None, None]
    waves = [np.sin((x + y * k + 2 * t + 9 * number) / (3 + k)) for k in range(channels)]
    return np.stack([(127 + 100 * wave).astype(np.uint8) for wave in waves], axis=-1)


def _encoded(frames: np.ndarray) -> JpegFrames:
    pieces = [encode(frame) for frame in frames]
    data = np.frombuffer(b"".join(pieces), np.uint8)
    return JpegFrames(data, np.cumsum([len(piece) for piece in pieces]))


def _row(number: int) -> Row:
    facts: dict[str, Any] = {"id": f"v{number}", "source": f"{number}.mp4", "group": "g"}
    return {**facts, "split": "train", "fps": 25.0, "original_size": [24, 24], "labels": {}}


def _add(writer: PackWriter, number: int, channels: int = 3) -> None:
    frames: np.ndarray | JpegFrames = _frames(number, channels or 3)
    if writer.storage == "jpeg":
        frames = _encoded(_frames(number, channels))
    if writer.storage == "none":
        frames = np.empty((LENGTHS[number], SIZE, SIZE, 0), np.uint8)
    extra = {"joints": np.full((LENGTHS[number], 17, 3), number, np.float32)}
    writer.commit({"rows": [writer.add(_row(number), frames, extra=extra)]})


def _finish(writer: PackWriter) -> None:
    rows = [row for entry in writer.entries for row in entry["rows"]]
    writer.finish(rows, {"dataset": "toy", "variant": writer.folder.name})


def _packed(folder: Path, storage: str, *, channels: int = 3, shard: int = 2**31) -> PackedVideos:
    channels = 0 if storage == "none" else channels
    options: dict[str, Any] = {"size_px": SIZE, "channels": channels, "shard_bytes": shard}
    with PackWriter(folder, storage=storage, **options) as writer:
        for number in range(len(LENGTHS)):
            _add(writer, number, channels)
        _finish(writer)
    return PackedVideos(folder)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shard", [2500, 2**31])
def test_jpeg_frames_come_back_close_to_what_they_were(
    tmp_path: Path, channels: int, shard: int
) -> None:
    packed = _packed(tmp_path / "24px", "jpeg", channels=channels, shard=shard)
    for number, count in enumerate(LENGTHS):
        expected = _frames(number, channels).astype(int)
        found = packed.frames(number, 0, count)
        assert found.dtype == np.uint8 and found.shape == (count, SIZE, SIZE, channels)
        assert np.abs(found - expected).mean() < 2
        assert np.array_equal(packed.frames(number, 1, 2), found[1:3])
        assert packed.frames(number, 0, 0).shape == (0, SIZE, SIZE, channels)
    assert packed.extra("joints")(2, 0, 7).shape == (7, 17, 3)


def test_jpeg_files_stay_below_their_limit_and_hold_whole_videos(tmp_path: Path) -> None:
    packed = _packed(tmp_path / "24px", "jpeg", shard=2500)
    files = sorted(packed.dir.glob("frames-*.jpegs"))
    assert len(files) > 1 and len(files) == len(list(packed.dir.glob("frames-*.ends.i64")))
    for path in files:
        held = [row for row in packed.rows if row.shard == int(path.stem[-3:])]
        assert path.stat().st_size <= 2500 or len(held) == 1
    assert set(packed.index["files"]) >= {path.name for path in files}


def test_jpeg_takes_much_less_space_for_pictures(tmp_path: Path) -> None:
    raw, jpeg = (_packed(tmp_path / name, name) for name in ("raw", "jpeg"))
    sizes = [
        sum(file["bytes"] for name, file in packed.index["files"].items() if "frames" in name)
        for packed in (raw, jpeg)
    ]
    assert sizes[1] < 0.75 * sizes[0]  # pictures as small as these are mostly headers


def test_a_jpeg_variant_says_so_and_an_older_program_would_not_misread_it(tmp_path: Path) -> None:
    raw, jpeg = (_packed(tmp_path / name, name) for name in ("raw", "jpeg"))
    assert (raw.index["version"], raw.index["storage"]) == (1, "raw")
    assert (jpeg.index["version"], jpeg.index["storage"]) == (2, "jpeg")
    path = raw.dir / "index.json"
    write_json(path, {key: value for key, value in read_json(path).items() if key != "storage"})
    assert PackedVideos(raw.dir).frames(0, 0, 5).shape == (5, SIZE, SIZE, 3)
    write_json(path, read_json(path) | {"storage": "cloud"})
    with pytest.raises(UserError, match="a format that this version does not read"):
        PackedVideos(raw.dir)


@pytest.mark.parametrize("shard", [2500, 2**31])
@pytest.mark.parametrize("done", range(5))
def test_a_killed_writer_goes_on_to_the_same_bytes(tmp_path: Path, done: int, shard: int) -> None:
    whole = _packed(tmp_path / "whole", "jpeg", shard=shard)
    folder = tmp_path / "cut"
    options: dict[str, Any] = {"size_px": SIZE, "channels": 3, "storage": "jpeg"}
    with PackWriter(folder, shard_bytes=shard, **options) as writer:
        for number in range(done):
            _add(writer, number)
        if done < len(LENGTHS):  # a video that was being written
            writer.add(_row(done), _encoded(_frames(done)))
    with PackWriter(folder, shard_bytes=shard, **options) as writer:
        assert len(writer.entries) == done
        for number in range(done, len(LENGTHS)):
            _add(writer, number)
        _finish(writer)
    expected = {path.name: path.read_bytes() for path in whole.dir.glob("frames-*")}
    assert {path.name: path.read_bytes() for path in folder.glob("frames-*")} == expected
    assert read_json(folder / "index.json")["files"] == whole.index["files"]


def test_frames_that_the_disk_does_not_give_back_are_noticed(tmp_path: Path) -> None:
    options: dict[str, Any] = {"size_px": SIZE, "channels": 3, "storage": "jpeg"}
    with PackWriter(tmp_path, **options) as writer:
        for number in range(3):
            _add(writer, number)
        with (tmp_path / "frames-000.jpegs").open("r+b") as file:
            file.seek(200)
            file.write(b"lost")
        with pytest.raises(UserError, match="does not give back") as caught:
            _finish(writer)
    assert caught.value.details["video"] == "v0"
    assert not (tmp_path / "index.json").exists()


def test_an_open_jpeg_variant_can_be_handed_to_another_process(tmp_path: Path) -> None:
    packed = _packed(tmp_path / "24px", "jpeg")
    frames = packed.frames(1, 0, 3)
    assert np.array_equal(pickle.loads(pickle.dumps(packed)).frames(1, 0, 3), frames)


def test_raw_and_encoded_frames_do_not_mix(tmp_path: Path) -> None:
    with (
        PackWriter(tmp_path / "raw", size_px=SIZE, channels=3) as writer,
        pytest.raises(ValueError, match="to be stored raw"),
    ):
        writer.add(_row(0), _encoded(_frames(0)))


def test_a_variant_without_frames_still_has_everything_else(tmp_path: Path) -> None:
    packed = _packed(tmp_path / "no-frames", "none")
    assert list(packed.num_frames) == list(LENGTHS)
    assert (packed.extra("joints")(3, 1, 2) == 3).all()
    assert not list(packed.dir.glob("frames*"))
    with pytest.raises(UserError, match="holds no frames") as caught:
        packed.frames(0, 0, 2)
    assert caught.value.exit_code == 4
    with pytest.raises(IndexError):
        packed.frames(0, 4, 2)
