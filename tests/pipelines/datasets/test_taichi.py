from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.datasets import taichi
from pipelines.datasets.base import RawVideo
from pipelines.events import UserError
from pipelines.io.images import fit_image
from pipelines.io.video import probe, read_video
from tests.pipelines.datasets import published_makers
from tests.pipelines.datasets.preparing import (
    litter,
    prepared,
    rejected,
    splits,
    with_images,
)
from tests.pipelines.io.video_makers import encode, levels, numbers

CLIPS = [
    "train/u6rJiF-gPx8#000004#000026",
    "train/u6rJiF-gPx8#000030#000050",
    "test/-Q2ab_cdEFG#000000#000020",
]
HEADER = ",".join(taichi._COLUMNS)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_makers.taichi(tmp_path_factory.mktemp("taichi"))


def table(folder: Path, *rows: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / taichi.TABLE).write_text("\n".join([HEADER, *rows]) + "\n")


def test_clips_have_the_published_names_and_parts(raw: Path, tmp_path: Path) -> None:
    packed = prepared(tmp_path, "taichi", raw)
    assert packed.ids == CLIPS
    assert list(splits(packed).values()) == ["train", "train", "test"]
    assert packed.num_frames.tolist() == [22, 20, 20]
    assert packed.rows[0].group == "u6rJiF-gPx8"


def test_a_clip_is_its_box_at_its_frames(raw: Path, tmp_path: Path) -> None:
    packed = prepared(tmp_path, "taichi", raw, size_px=32)
    whole = read_video(raw / "videos" / "u6rJiF-gPx8.mp4")
    for row, first, box in ((0, 4, (16, 8, 80, 72)), (1, 30, (0, 0, 96, 96))):
        for number in (0, 7, int(packed.num_frames[row]) - 1):
            picture = Image.fromarray(whole[first + number]).crop(box)
            expected = np.asarray(fit_image(picture, 32, fit="squash"), np.int16)
            found = packed.frames(row, number, 1)[0]
            assert np.abs(found - expected).mean() < 1.5
            assert (
                np.abs(found - expected).mean()
                < np.abs(found - np.roll(expected, 2, axis=1)).mean()
            )


@pytest.mark.parametrize(("fps", "step"), [(30, 1), (15, 0.5), (60, 2), (29.97, 1)])
def test_frames_are_found_by_their_time_whatever_the_rate(
    tmp_path: Path, fps: float, step: float
) -> None:
    raw = tmp_path / "raw"
    listed = 29.97 if fps == 29.97 else 30
    rows = [f"vid,{start},{start + 8},0-0-16-16,{listed},32,16,train" for start in (0, 6, 10)]
    table(raw, *rows)
    rate = "30000/1001" if fps == 29.97 else str(fps)
    frames = levels(23, width=64, height=32)
    # B-frames and a single key frame: what seeking gets wrong most easily.
    options = ("-r", rate, "-bf", "2", "-g", "250")
    path = encode(
        raw / "videos" / "vid.mp4",
        frames,
        fps=fps if fps != 29.97 else 30000 / 1001,
        options=options,
    )
    assert probe(path).fps == fps
    packed = prepared(tmp_path, "taichi", raw, min_frames=2)
    for row, start in enumerate((0, 6, 10)):
        expected = [n for n in range(23) if start * step <= n < (start + 8) * step]
        assert numbers(packed.frames(row, 0, int(packed.num_frames[row]))) == expected


def test_a_box_is_scaled_to_the_size_that_was_downloaded(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    table(raw, "vid,0,20,96-0-192-96,30.0,192,96,train")
    frames = np.zeros((20, 32, 64, 3), np.uint8)
    frames[:, :, 32:] = 200
    encode(raw / "videos" / "vid.mp4", frames, fps=30)
    packed = prepared(tmp_path, "taichi", raw)
    assert packed.frames(0, 0, 20)[:, 2:-2, 2:-2].min() > 180
    assert packed.rows[0].original_size == (64, 32)


def test_a_video_that_could_not_be_had_is_named_with_the_reason(raw: Path, tmp_path: Path) -> None:
    assert rejected(prepared(tmp_path, "taichi", raw)) == {
        "train/gone_away__#000010#000040": ("missing", "listed but not there")
    }
    own = published_makers.taichi(tmp_path / "raw")
    litter(own)
    (own / "videos" / "gone_away__.mp4.part").write_bytes(b"half")
    notes = {"videos": {"videos/gone_away__.mp4": "private"}, "reasons": {"private": 1}}
    (own / taichi.MISSING).write_text(json.dumps(notes))
    left_out = rejected(prepared(tmp_path / "other", "taichi", own))
    assert left_out["train/gone_away__#000010#000040"] == ("missing", "private")


def test_a_box_outside_the_frame_costs_its_clip_only(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    table(raw, "vid,0,20,200-0-296-96,30.0,192,96,train", "vid,0,20,0-0-96-96,30.0,192,96,test")
    encode(raw / "videos" / "vid.mp4", levels(20, width=64, height=32), fps=30)
    packed = prepared(tmp_path, "taichi", raw)
    assert packed.ids == ["test/vid#000000#000020"]
    reason, detail = rejected(packed)["train/vid#000000#000020"]
    assert reason == "unreadable" and "outside the frame" in detail


def test_clips_that_published_code_has_cut_are_read_as_they_are(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    frames = levels(20, width=64, height=64)
    encode(raw / "train" / "abc_def-ghi#000010#000030.mp4", frames, fps=30)
    published_makers.images(raw / "test" / "-x#000000#000020", frames, "{0:07d}.png")
    litter(raw)
    packed = prepared(tmp_path, "taichi", raw)
    assert splits(packed) == {
        **{"train/abc_def-ghi#000010#000030": "train", "test/-x#000000#000020": "test"}
    }
    assert [row.group for row in packed.rows] == ["abc_def-ghi", "-x"]


def test_the_published_folders_of_images_are_written_and_read_again(
    raw: Path, tmp_path: Path
) -> None:
    images = with_images(tmp_path, "taichi", raw, size_px=32)
    assert (images / CLIPS[0] / "0000021.png").is_file()
    packed = prepared(tmp_path, "taichi", raw, size_px=32)
    again = prepared(tmp_path / "again", "taichi", images, size_px=32)
    assert splits(again) == splits(packed)
    assert np.array_equal(again.frames(1, 0, 20), packed.frames(1, 0, 20))


def test_the_table_is_read_as_published(raw: Path) -> None:
    rows = taichi.read_table(raw / taichi.TABLE)
    assert [row.name for row in rows[:2]] == [clip.partition("/")[2] for clip in CLIPS[:2]]
    listed = [each for each in taichi.layout(raw) if isinstance(each, RawVideo)]
    assert [(each.first_frame, each.num_frames, each.clock_fps) for each in listed] == [
        *((4, 22, 30.0), (30, 20, 30.0), (0, 20, 30.0))
    ]


@pytest.mark.parametrize(
    "row",
    [
        *("vid,0,20,0-0-96,30.0,192,96,train", "vid,20,10,0-0-96-96,30.0,192,96,train"),
        *("vid,0,20,0-0-96-96,30.0,192,96,dev", "vid,0,20"),
    ],
)
def test_a_line_that_makes_no_sense_is_pointed_at(tmp_path: Path, row: str) -> None:
    table(tmp_path, "vid,0,20,0-0-96-96,30.0,192,96,train", row)
    with pytest.raises(UserError) as error:
        taichi.read_table(tmp_path / taichi.TABLE)
    assert error.value.message == "line 3 of 'taichi-metadata.csv' is not a clip"
    assert "i2v download taichi" in error.value.details["to fix"]


def test_videos_without_the_table_and_no_videos_at_all(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tai-chi videos"):
        list(taichi.layout(tmp_path))
    encode(tmp_path / "videos" / "vid.mp4", levels(4))
    with pytest.raises(UserError, match=r"the table .* is missing"):
        list(taichi.layout(tmp_path))
