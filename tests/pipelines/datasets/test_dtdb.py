from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets import dtdb
from pipelines.events import UserError
from tests.pipelines.datasets import published_makers
from tests.pipelines.datasets.preparing import (
    litter,
    prepared,
    rejected,
    splits,
    with_images,
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_makers.dtdb(tmp_path_factory.mktemp("dtdb"))


def test_textures_and_splits_are_the_folders(raw: Path, tmp_path: Path) -> None:
    packed = prepared(tmp_path, "dtdb", raw)
    assert splits(packed) == {
        f"{texture}/{folder}/{texture}_1": split
        for texture in dtdb.TEXTURES
        for folder, split in (("train", "train"), ("eval", "test"))
    }
    assert {row.labels["texture"] for row in packed.rows} == set(dtdb.TEXTURES)
    assert {row.original_size for row in packed.rows} == {(40, 30), (29, 20), (64, 36), (33, 47)}
    assert set(packed.num_frames.tolist()) == {published_makers.LONG}


def test_a_folder_around_it_and_litter_change_nothing(raw: Path, tmp_path: Path) -> None:
    around = tmp_path / "raw"
    published_makers.dtdb(around / "DTDB")
    litter(around)
    (around / "DTDB" / "fire" / "train" / "half.part").mkdir()
    packed = prepared(tmp_path, "dtdb", around)
    clean = prepared(tmp_path / "clean", "dtdb", raw)
    assert splits(packed) == splits(clean)
    for row in range(len(packed)):
        assert np.array_equal(packed.frames(row, 0, 24), clean.frames(row, 0, 24))


def test_a_video_without_frames_is_reported(tmp_path: Path) -> None:
    raw = published_makers.dtdb(tmp_path / "raw")
    (raw / "fire" / "eval" / "fire_2").mkdir()
    left_out = rejected(prepared(tmp_path, "dtdb", raw))
    assert left_out == {"fire/eval/fire_2": ("no frames", "the folder has no image")}


def test_the_published_folders_are_written_and_read_again(raw: Path, tmp_path: Path) -> None:
    images = with_images(tmp_path, "dtdb", raw)
    assert (images / "clouds" / "eval" / "clouds_1" / "frame23.png").is_file()
    assert (images / "fire" / "train" / "fire_1" / "frame0.jpg").is_file()
    packed, again = (
        prepared(tmp_path / name, "dtdb", folder) for name, folder in (("a", raw), ("b", images))
    )
    assert splits(again) == splits(packed)
    assert np.array_equal(again.frames(3, 0, 24), packed.frames(3, 0, 24))


def test_a_folder_without_videos_names_the_download(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        list(dtdb.layout(tmp_path))
    assert (error.value.exit_code, error.value.details["run first"]) == (4, "i2v download dtdb")
