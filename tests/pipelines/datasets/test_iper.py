from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets import iper
from pipelines.datasets.base import RawVideo
from pipelines.datasets.protocols import follow
from pipelines.events import UserError
from tests.pipelines.datasets import published_makers
from tests.pipelines.datasets.preparing import (
    litter,
    prepared,
    reasons,
    rejected,
    splits,
    with_images,
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_makers.iper_videos(tmp_path_factory.mktemp("iper"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every published file name, with nothing in the files."""
    folder = tmp_path_factory.mktemp("whole") / "iPER_256_video_release"
    folder.mkdir()
    for split in ("train", "val", "test"):
        for line in iper.published_list(split):
            (folder / f"{line.replace('/', '_')}.mp4").write_bytes(b"")
    return folder.parent


@pytest.mark.parametrize(
    ("split", "end", "md5"),
    [
        ("train", "", "b8fc507f0b8060ec4bbe970bdb40005c"),
        ("val", "\n", "b6cc8956ef879942989abd1ad9cc7ee6"),
        ("test", "\n", "e7f00b7e7f1bfa49357eafaed8cc67ac"),
    ],
)
def test_the_lists_are_the_published_ones_to_the_last_byte(split: str, end: str, md5: str) -> None:
    text = "\n".join(iper.published_list(split)) + end
    assert hashlib.md5(text.encode()).hexdigest() == md5


def test_the_published_splits_have_the_published_numbers(whole: Path) -> None:
    def chosen(protocol: str) -> list[RawVideo]:
        found = list(follow(iper.layout(whole), "iper", protocol))
        return [each for each in found if isinstance(each, RawVideo)]

    assert Counter(each.split for each in chosen("cinn")) == {"train": 138, "val": 26, "test": 42}
    assert Counter(each.split for each in chosen("official")) == {"train": 164, "test": 42}
    assert {each.time_parts for each in chosen("ii2v")} == {(0.8, 0.0, 0.2)}
    actors: dict[str, set[str]] = {}
    for each in chosen("cinn"):
        actors.setdefault(str(each.split), set()).add(each.group)
    assert len(actors["train"] & actors["val"]) == 7
    assert len(actors["train"] & actors["test"]) == 10
    assert len(set.union(*actors.values())) == 30


def test_rows_follow_the_lists_and_know_who_does_what(raw: Path, tmp_path: Path) -> None:
    packed = prepared(tmp_path, "iper", raw)
    lines = [line for split in ("train", "val", "test") for line in iper.published_list(split)[:2]]
    assert packed.ids == [line.replace("/", "_") for line in lines]
    assert list(splits(packed).values()) == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    assert packed.rows[1].labels == {"actor": 6, "outfit": 1, "action": 2, "object": 601}
    assert packed.rows[0].fps == 30
    assert len(rejected(packed)) == 200
    assert rejected(packed)["001_5_1"] == ("missing", "listed for train but not there")


def test_the_sharper_release_is_taken_where_both_are_there(tmp_path: Path) -> None:
    lines = iper.published_list("train")[:2]
    raw = tmp_path / "raw"
    published_makers.iper_videos(raw, lines=lines, release=256)
    published_makers.iper_videos(raw, lines=lines[:1], release=1024)
    litter(raw)
    packed = prepared(tmp_path, "iper", raw)
    assert [row.source.partition("/")[0] for row in packed.rows] == [
        *("iPER_1024_video_release", "iPER_256_video_release")
    ]


def test_a_video_of_no_list_has_no_split_of_the_lists(tmp_path: Path) -> None:
    raw = published_makers.iper_videos(tmp_path / "raw", lines=["006/1/1", "099/1/2"])
    assert prepared(tmp_path, "iper", raw).ids == ["006_1_1"]
    by_time = prepared(tmp_path, "iper", raw, protocol="ii2v")
    assert by_time.ids == ["006_1_1~train", "099_1_2~train"]
    assert reasons(by_time) == {"missing": 205, "too short": 2}


def test_the_published_folders_of_images_are_written_and_read_again(
    raw: Path, tmp_path: Path
) -> None:
    images = with_images(tmp_path, "iper", raw, size_px=32)
    names = {path.name for path in (images / "006_1_1").iterdir()}
    assert names == {f"frame_{number}.png" for number in range(24)}
    packed = prepared(tmp_path, "iper", raw, size_px=32)
    again = prepared(tmp_path / "again", "iper", images, size_px=32)
    assert splits(again) == splits(packed)
    assert np.array_equal(again.frames(4, 0, 24), packed.frames(4, 0, 24))


def test_a_folder_without_videos_names_the_download(tmp_path: Path) -> None:
    litter(tmp_path)
    with pytest.raises(UserError) as error:
        list(iper.layout(tmp_path))
    assert (error.value.exit_code, error.value.details["run first"]) == (4, "i2v download iper")
