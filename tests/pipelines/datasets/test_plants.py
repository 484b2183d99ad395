from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets import plants
from pipelines.datasets.extraction import time_borders
from pipelines.events import UserError
from tests.pipelines.datasets import published_makers
from tests.pipelines.datasets.preparing import (
    litter,
    prepared,
    rejected,
    splits,
    with_images,
)
from tests.pipelines.io.video_makers import encode, levels, numbers


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_makers.plants(tmp_path_factory.mktemp("plants"))


def test_four_fifths_of_every_video_train_and_the_rest_tests(raw: Path, tmp_path: Path) -> None:
    packed = prepared(tmp_path, "plants", raw, min_frames=4)
    assert splits(packed) == {
        f"{stem}~{split}": split
        for stem in ("VID_1_1", "VID_3_1", "VID_10_2")
        for split in ("train", "test")
    }
    shown = {
        row.id: numbers(packed.frames(number, 0, row.num_frames))
        for number, row in enumerate(packed.rows)
    }
    for stem, total in (("VID_1_1", 24), ("VID_10_2", 23), ("VID_3_1", 22)):
        border = int(0.8 * total)
        assert shown[f"{stem}~train"] == list(range(border))
        assert shown[f"{stem}~test"] == list(range(border, total))


def test_the_border_is_the_published_one_for_every_length() -> None:
    wrong = [n for n in range(1, 20_000) if time_borders(plants.TIME_PARTS, n)[0] != int(0.8 * n)]
    assert wrong == []
    assert all(time_borders(plants.TIME_PARTS, n)[2] == n for n in range(1, 20_000))


def test_object_and_group_are_the_plant(raw: Path, tmp_path: Path) -> None:
    packed = prepared(tmp_path, "plants", raw, min_frames=4)
    found = {row.id.partition("~")[0]: (row.group, row.labels["object"]) for row in packed.rows}
    assert found == {
        **{"VID_1_1": ("plant 1", 1), "VID_3_1": ("plant 3", 3), "VID_10_2": ("plant 10", 10)}
    }


def test_what_the_published_code_never_uses_is_left_out(tmp_path: Path) -> None:
    stems = ("VID_0_1_1024x1024", "VID_0_3_1024x1024", "VID_8_1")
    raw = published_makers.plants(tmp_path / "raw", stems=stems)
    litter(raw)
    packed = prepared(tmp_path, "plants", raw)
    assert packed.ids == ["VID_0_1_1024x1024~train"]
    left_out = rejected(packed)
    assert {left_out[stem][0] for stem in stems[1:]} == {"not used"}


def test_a_split_of_ones_own_takes_whole_videos(raw: Path, tmp_path: Path) -> None:
    packed = prepared(tmp_path, "plants", raw, protocol="own", split=(0.5, 0.0, 0.5), seed=3)
    assert sorted(packed.ids) == ["VID_10_2", "VID_1_1", "VID_3_1"]
    assert sorted(splits(packed).values()) == ["test", "test", "train"]


def test_a_damaged_video_costs_only_itself(tmp_path: Path) -> None:
    raw = published_makers.plants(tmp_path / "raw")
    path = raw / "videos" / "VID_1_1.mkv"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    packed = prepared(tmp_path, "plants", raw)
    assert {video.partition("~")[0] for video in packed.ids} == {"VID_3_1", "VID_10_2"}
    assert rejected(packed)["VID_1_1"][0] in ("damaged", "unreadable")


def test_the_published_folder_of_images_is_written_and_read_again(
    raw: Path, tmp_path: Path
) -> None:
    options = {"size_px": 32, "min_frames": 4}
    images = with_images(tmp_path, "plants", raw, **options)
    names = {path.name for path in (images / "VID_1_1").iterdir()}
    assert names == {f"frame_{number}.png" for number in range(24)}
    (images / "VID_1_1" / "prediction_0_10.flow.npy").write_bytes(b"flow")
    (images / "meta.p").write_bytes(b"a pickle that nobody opens")
    packed = prepared(tmp_path, "plants", raw, **options)
    again = prepared(tmp_path / "again", "plants", images, **options)
    assert splits(again) == splits(packed)
    for row in range(len(packed)):
        count = int(packed.num_frames[row])
        assert np.array_equal(again.frames(row, 0, count), packed.frames(row, 0, count))


def test_a_video_wins_over_its_images(raw: Path, tmp_path: Path) -> None:
    own = published_makers.plants(tmp_path / "raw", stems=("VID_1_1",))
    published_makers.images(own / "processed" / "VID_1_1", levels(30), "frame_{0}.png")
    (video,) = plants.layout(own)
    assert getattr(video, "kind", "") == "video"
    encode(own / "other.mkv", levels(4))
    assert len(list(plants.layout(own))) == 1


def test_a_folder_without_videos_names_the_download(tmp_path: Path) -> None:
    litter(tmp_path)
    with pytest.raises(UserError) as error:
        list(plants.layout(tmp_path))
    assert (error.value.exit_code, error.value.details["run first"]) == (4, "i2v download plants")
