from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets import landscape
from pipelines.events import UserError
from tests.pipelines.datasets import published_makers
from tests.pipelines.datasets.preparing import (
    litter,
    prepared,
    rejected,
    splits,
    with_images,
)
from tests.pipelines.io.video_makers import levels, numbers

MD5 = {
    "train": "bd7921126a917e9c54a6bf1276a02495",
    "eval": "0cfc82960d88e228040db6f6d50a8517",
    "test": "12ae685261b0692b968efaed1fd6e31a",
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_makers.landscape_frames(tmp_path_factory.mktemp("landscape"))


@pytest.mark.parametrize("name", MD5)
def test_the_lists_are_the_published_ones_to_the_last_byte(name: str) -> None:
    text = "".join(f"{line}\n" for line in landscape.published_list(name))
    assert hashlib.md5(text.encode()).hexdigest() == MD5[name]


def test_the_lists_have_the_published_numbers() -> None:
    lists = {name: landscape.published_list(name) for name in MD5}
    assert {name: len(lines) for name, lines in lists.items()} == {
        **{"train": 1074, "eval": 120, "test": 153}
    }
    sources = {name: {line.partition("/")[0] for line in lines} for name, lines in lists.items()}
    assert {name: len(each) for name, each in sources.items()} == {
        **{"train": 596, "eval": 97, "test": 89}
    }
    assert len(set(lists["eval"])) == 112
    assert len(sources["eval"] & sources["train"]) == 54


def test_a_prepared_list_gives_the_published_order_and_repetitions(tmp_path: Path) -> None:
    lines = landscape.published_list("eval")
    twice = [line for line in dict.fromkeys(lines) if lines.count(line) == 2]
    chosen = {"eval": [*reversed(twice), *lines[:2]]}
    raw = published_makers.landscape_frames(tmp_path / "raw", chosen)
    packed = prepared(tmp_path, "landscape", raw)
    places: dict[int, str] = {}
    for row in packed.rows:
        listed = row.labels["list_places"]
        assert isinstance(listed, list)
        places |= {int(str(number)): row.id.removeprefix("sky_train/") for number in listed}
    assert len(places) == 8 * 2 + 2
    assert all(lines[number] == name for number, name in places.items())
    first = [row.labels["list_places"] for row in packed.rows]
    assert first == sorted(first), "rows follow the list"


def test_frames_follow_the_order_of_their_names_whatever_the_gaps(
    raw: Path, tmp_path: Path
) -> None:
    packed = prepared(tmp_path, "landscape", raw)
    for row in range(len(packed)):
        frames = packed.frames(row, 0, published_makers.LONG)
        assert numbers(frames) == list(range(published_makers.LONG))
    assert sorted(splits(packed).values()) == ["test"] * 2 + ["train"] * 2 + ["val"] * 2


def test_clips_that_are_listed_and_missing_are_named(raw: Path, tmp_path: Path) -> None:
    left_out = rejected(prepared(tmp_path, "landscape", raw))
    assert len(left_out) == 1072 + 110 + 151
    name = f"sky_test/{landscape.published_list('test')[5].rstrip('/')}"
    assert left_out[name] == ("missing", "listed for test but not there")


def test_clips_that_no_list_names_are_for_those_who_ask(raw: Path, tmp_path: Path) -> None:
    own = tmp_path / "raw"
    published_makers.landscape_frames(
        own / "sky_timelapse", {"train": ["-abc_defghi/-abc_defghi_12"]}
    )
    litter(own)
    packed = prepared(tmp_path, "landscape", own, protocol="all")
    assert splits(packed) == {"sky_train/-abc_defghi/-abc_defghi_12": "train"}
    with pytest.raises(UserError, match="no usable video"):
        prepared(tmp_path, "landscape", own)
    everything = splits(prepared(tmp_path / "other", "landscape", raw, protocol="all"))
    assert sorted(everything.values()) == ["test"] * 2 + ["train"] * 4


def test_too_short_clips_are_left_out_and_reported(tmp_path: Path) -> None:
    line = landscape.published_list("train")[0]
    raw = published_makers.landscape_frames(tmp_path / "raw")
    for path in sorted((raw / "sky_train" / line).glob("*.jpg"))[16:]:
        path.unlink()
    left_out = rejected(prepared(tmp_path, "landscape", raw))
    assert left_out[f"sky_train/{line}"] == ("too short", "16 frames, fewer than 17")


def test_renamed_frames_are_the_raw_ones_and_can_be_read_again(raw: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in raw.rglob("*"))
    images = with_images(tmp_path, "landscape", raw)
    line = landscape.published_list("train")[0]
    folder = images / "sky_train" / line
    names = {path.name for path in folder.iterdir()}
    assert names == {f"frame{number}.jpg" for number in range(published_makers.LONG)}
    second = sorted((raw / "sky_train" / line).iterdir())[1]
    assert (folder / "frame1.jpg").read_bytes() == second.read_bytes()
    assert os.stat(folder / "frame1.jpg").st_nlink > 1, "no second copy"
    assert sorted(path.name for path in raw.rglob("*")) == before
    packed = prepared(tmp_path, "landscape", raw)
    again = prepared(tmp_path / "again", "landscape", images)
    assert splits(again) == splits(packed)
    assert np.array_equal(again.frames(2, 0, 24), packed.frames(2, 0, 24))


def test_a_folder_without_clips_names_the_download(tmp_path: Path) -> None:
    published_makers.images(tmp_path / "sky_train" / "x" / "other", levels(2), "{0}.jpg")
    with pytest.raises(UserError) as error:
        list(landscape.layout(tmp_path))
    assert (error.value.exit_code, error.value.details["run first"]) == (
        4,
        "i2v download landscape",
    )
