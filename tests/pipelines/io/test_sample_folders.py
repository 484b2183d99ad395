from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.io.images import write_png
from pipelines.io.sample_folders import read_sample_folder, sample_folders, scene_of


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def write_meta(folder: Path, meta: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.json").write_text(json.dumps(meta))


def names(folder: Path) -> list[str]:
    return [each.path.relative_to(folder).as_posix() for each in read_sample_folder(folder).videos]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat-s3", ("cat", 3)),
        ("cat_sample12", ("cat", 12)),
        ("a b.s0", ("a b", 0)),
        ("clip-0007", ("clip-0007", None)),
        ("cats3", ("cats3", None)),
    ],
)
def test_only_a_marked_number_makes_a_sample(name, expected):
    assert scene_of(name) == expected


def test_videos_are_found_in_the_order_of_their_numbers_and_in_subfolders(tmp_path):
    touch(tmp_path, "v10.mp4", "v9.webm", "fire/a.MP4", "grid.png", ".hidden.mp4", "notes.txt")
    folder = read_sample_folder(tmp_path)
    assert names(tmp_path) == ["v9.webm", "v10.mp4", "fire/a.MP4"]
    assert [each.group for each in folder.videos] == [None, None, "fire"]


def test_a_gif_beside_a_video_is_its_fallback_and_not_another_video(tmp_path):
    touch(tmp_path, "a.gif", "a.mp4", "b.gif")
    found = read_sample_folder(tmp_path).videos
    assert [(each.path.name, each.gif and each.gif.name) for each in found] == [
        ("a.mp4", "a.gif"),
        ("b.gif", None),
    ]


def test_a_folder_of_images_is_one_video(tmp_path):
    for index in range(3):
        write_png(tmp_path / "clip.v2" / f"{index}.png", np.zeros((8, 8, 3), np.uint8))
    (video,) = read_sample_folder(tmp_path).videos
    assert video.path == tmp_path / "clip.v2"
    assert video.scene == "clip.v2"


def test_meta_json_names_scenes_samples_groups_and_fallbacks(tmp_path):
    touch(tmp_path, "a.mp4", "a.gif", "start/a.png")
    entry = {"file": "a.mp4", "scene": "cat", "sample": 2, "group": "pets", "gif": "a.gif"}
    meta = {"kind": "reconstruction", "includes_start_frame": True}
    write_meta(tmp_path, {**meta, "videos": [{**entry, "start": "start/a.png"}]})
    folder = read_sample_folder(tmp_path)
    (video,) = folder.videos
    assert (video.scene, video.sample, video.group) == ("cat", 2, "pets")
    assert (video.gif, video.start) == (tmp_path / "a.gif", tmp_path / "start/a.png")
    assert folder.kind == "reconstruction"
    assert folder.includes_start_frame


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("real-test", "real"),
        ("Recon", "reconstruction"),
        ("transfer1", "transfer"),
        ("x", "sample"),
    ],
)
def test_without_meta_json_the_name_of_the_folder_says_the_kind(tmp_path, name, kind):
    assert read_sample_folder(touch(tmp_path / name, "a.mp4")).kind == kind


def test_every_readable_folder_of_a_run_is_listed(tmp_path):
    touch(tmp_path / "samples" / "one", "a.mp4")
    write_meta(tmp_path / "samples" / "broken", ["not an object"])
    touch(tmp_path / "samples" / "empty", "notes.txt")
    touch(tmp_path / "samples" / ".building", "a.mp4")
    assert [each.path.name for each in sample_folders(tmp_path)] == ["one"]
    assert sample_folders(tmp_path / "no run") == []


@pytest.mark.parametrize(
    "meta",
    [
        ["not an object"],
        {"videos": [{"scene": "no file"}]},
        {"videos": [{"file": "../outside.mp4"}]},
        {"videos": [{"file": "/etc/passwd"}]},
        {"videos": [{"file": "a.mp4", "sample": "many"}]},
        {"videos": "a.mp4"},
    ],
)
def test_a_meta_json_that_makes_no_sense_is_named(tmp_path, meta):
    touch(tmp_path, "outside.mp4")
    touch(tmp_path / "f", "a.mp4")
    write_meta(tmp_path / "f", meta)
    with pytest.raises(UserError, match=r"meta\.json") as error:
        read_sample_folder(tmp_path / "f")
    assert "meta.json" in error.value.details["file"]


def test_a_torn_meta_json_is_named(tmp_path):
    touch(tmp_path, "a.mp4")
    (tmp_path / "meta.json").write_text('{"videos": [')
    with pytest.raises(UserError, match=r"meta\.json"):
        read_sample_folder(tmp_path)


def test_a_listed_video_that_is_gone_is_named(tmp_path):
    write_meta(tmp_path, {"videos": [{"file": "gone.mp4"}]})
    with pytest.raises(UserError, match="not there") as error:
        read_sample_folder(tmp_path)
    assert "gone.mp4" in error.value.details["first missing"]
    assert error.value.exit_code == EXIT_NO_DATA
