from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.datasets import kth
from pipelines.datasets.base import RawVideo, Rejected
from pipelines.datasets.protocols import follow
from pipelines.events import UserError
from pipelines.io.video import read_video
from tests.pipelines.datasets import published_makers
from tests.pipelines.datasets.preparing import (
    litter,
    prepared,
    rejected,
    splits,
    with_images,
)
from tests.pipelines.io.video_makers import encode, levels, numbers

USUAL = {"grey": True, "fit": "center-crop", "min_frames": 16}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_makers.kth(tmp_path_factory.mktemp("kth"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every published file name, with nothing in the files, and a list like the published one."""
    folder = tmp_path_factory.mktemp("whole")
    published_makers.sequences_like_the_published(folder / kth.SEQUENCES)
    for action in kth.ACTIONS:
        (folder / action).mkdir()
        for person in range(1, 26):
            for setting in (1, 2, 3, 4):
                stem = f"person{person:02d}_{action}_d{setting}"
                if stem != "person13_handclapping_d3":
                    (folder / action / f"{stem}_uncomp.avi").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("protocol", "sequences", "videos"),
    [
        ("svg", {"train": 1912, "test": 479}, {"train": 479, "test": 120}),
        ("mcnet", {"train": 1528, "test": 863}, {"train": 383, "test": 216}),
        (
            "official",
            {"train": 760, "val": 768, "test": 863},
            {"train": 191, "val": 192, "test": 216},
        ),
        ("whole", {"train": 191, "val": 192, "test": 216}, {"train": 191, "val": 192, "test": 216}),
    ],
)
def test_the_published_splits_have_the_published_numbers(
    whole: Path, protocol: str, sequences: dict[str, int], videos: dict[str, int]
) -> None:
    found = list(follow(kth.layout(whole), "kth", protocol))
    chosen = [each for each in found if isinstance(each, RawVideo)]
    assert Counter(each.split for each in chosen) == sequences
    files = {(each.split, each.path) for each in chosen}
    assert Counter(split for split, _ in files) == videos
    left_out = [each for each in found if isinstance(each, Rejected)]
    assert [(each.id, each.detail) for each in left_out] == [
        ("handclapping/person13_handclapping_d3", "it was never published")
    ]


def test_no_person_is_in_two_splits(whole: Path) -> None:
    for protocol in kth.SPEC.published:
        persons: dict[str, set[str | None]] = {}
        for each in follow(kth.layout(whole), "kth", protocol):
            if isinstance(each, RawVideo):
                persons.setdefault(each.group, set()).add(each.split)
        assert len(persons) == 25
        assert all(len(each) == 1 for each in persons.values())


def test_a_sequence_holds_just_its_frames(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    encode(raw / "boxing" / "person11_boxing_d2_uncomp.avi", levels(22, width=160, height=120))
    (raw / kth.SEQUENCES).write_text("person11_boxing_d2  \t\tframes\t1-6, 9-22, 21-40\n")
    packed = prepared(tmp_path, "kth", raw, grey=True, min_frames=2)
    shown = [numbers(packed.frames(row, 0, packed.num_frames[row])) for row in range(3)]
    # The last one goes on after the end of the video, as some published ones do.
    assert shown == [list(range(6)), list(range(8, 22)), [20, 21]]
    assert [row.id for row in packed.rows] == [f"boxing/person11_boxing_d2~{n}" for n in (1, 2, 3)]
    assert packed.rows[1].labels == {
        **{"action": "boxing", "person": 11, "setting": 2},
        "first_frame": 8,
    }


def test_the_middle_square_of_grey_frames_is_kept(raw: Path, tmp_path: Path) -> None:
    packed = prepared(tmp_path, "kth", raw, size_px=24, **USUAL)
    path = raw / packed.rows[0].source
    frames = read_video(path, size_px=24, fit="center-crop", grey=True)
    assert np.array_equal(packed.frames(0, 0, 25), frames[:25])
    assert np.array_equal(packed.frames(1, 0, 30), frames[30:60])
    assert (packed.channels, packed.rows[0].fps, packed.rows[0].original_size) == (
        1,
        25,
        (160, 120),
    )


def test_whole_videos_are_cut_into_clips_of_16_frames(raw: Path, tmp_path: Path) -> None:
    packed = prepared(tmp_path, "kth", raw, protocol="whole", clip_frames=16, fit="center-crop")
    stem = "walking/person01_walking_d1"
    assert packed.ids[:3] == [f"{stem}~clip000", f"{stem}~clip001", f"{stem}~clip002"]
    assert set(packed.num_frames.tolist()) == {16}
    assert len(packed) == 5 * 3, "60 frames are three clips"
    whole = prepared(tmp_path, "kth", raw, protocol="whole", fit="center-crop")
    assert np.array_equal(packed.frames(1, 0, 16), whole.frames(0, 16, 16))


def test_videos_of_an_action_that_are_missing_are_named(raw: Path, tmp_path: Path) -> None:
    (listed := tmp_path / "raw").mkdir()
    for path in raw.rglob("*.avi"):
        (listed / path.name).write_bytes(path.read_bytes())  # without a folder per action
    text = (raw / kth.SEQUENCES).read_text() + "person02_walking_d1\t\tframes\t1-30\n"
    (listed / kth.SEQUENCES).write_text(text)
    litter(listed)
    packed = prepared(tmp_path, "kth", listed, **USUAL)
    assert splits(packed) == splits(prepared(tmp_path / "other", "kth", raw, **USUAL))
    left_out = rejected(packed)
    assert left_out["walking/person02_walking_d1"] == ("missing", "listed but not there")
    assert not [video for video in left_out if video.startswith("boxing")]


def test_folders_of_images_as_svg_has_them_are_written_and_read_again(
    raw: Path, tmp_path: Path
) -> None:
    options = {"protocol": "svg", "size_px": 64, "grey": True, "min_frames": 16}
    images = with_images(tmp_path, "kth", raw, **options)
    folder = images / "walking" / "person17_walking_d1"
    names = sorted(path.name for path in folder.iterdir())
    assert (names[0], names[24], names[25]) == (
        *("image-001_64x64.png", "image-025_64x64.png"),
        "image-031_64x64.png",  # frames between two sequences are not prepared
    )
    everything = with_images(tmp_path, "kth", raw, **{**options, "protocol": "whole"})
    (everything / kth.SEQUENCES).write_bytes((raw / kth.SEQUENCES).read_bytes())
    again = prepared(tmp_path / "again", "kth", everything, **options)
    packed = prepared(tmp_path, "kth", raw, **options)
    assert splits(again) == splits(packed)
    for row in range(len(packed)):
        count = int(packed.num_frames[row])
        assert np.array_equal(again.frames(row, 0, count), packed.frames(row, 0, count))


def test_mcnets_own_list_is_followed_where_it_is_there(raw: Path, tmp_path: Path) -> None:
    (own := tmp_path / "raw").mkdir()
    for path in raw.rglob("*.avi"):
        (own / path.name).write_bytes(path.read_bytes())
    (own / kth.SEQUENCES).write_bytes((raw / kth.SEQUENCES).read_bytes())
    (own / "train_data_list_trimmed.txt").write_text("person01_walking_d1 1 25\n\n")
    packed = prepared(tmp_path, "kth", own, protocol="mcnet", min_frames=16)
    train = [video for video, split in splits(packed).items() if split == "train"]
    assert train == ["walking/person01_walking_d1~1"]
    assert len(packed) == 1 + 3 * 2, "the test sequences have no list of their own here"


def test_a_missing_or_empty_list_is_explained(raw: Path, tmp_path: Path) -> None:
    (own := tmp_path / "raw" / "walking").mkdir(parents=True)
    image = Image.new("L", (8, 8))
    (folder := own / "person01_walking_d1").mkdir()
    image.save(folder / "image-001_8x8.png")
    with pytest.raises(UserError) as error:
        list(kth.layout(tmp_path / "raw"))
    assert error.value.message == "the list '00sequences.txt' is missing"
    assert error.value.details["run first"] == "i2v download kth --only 00sequences.txt"
    (tmp_path / "raw" / kth.SEQUENCES).write_text("<html>moved</html>")
    with pytest.raises(UserError, match="no sequences"):
        list(kth.layout(tmp_path / "raw"))
    with pytest.raises(UserError, match="no KTH videos"):
        list(kth.layout(tmp_path))


def test_an_unknown_protocol_names_those_there_are(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        prepared(tmp_path, "kth", raw, protocol="srvp")
    assert error.value.exit_code == 2
    assert {"official", "svg", "mcnet", "whole", "own"} <= error.value.details.keys()
