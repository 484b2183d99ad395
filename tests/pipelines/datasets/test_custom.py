from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.datasets.base import RawVideo, Rejected
from pipelines.datasets.custom import layout
from pipelines.events import UserError


def _touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content is not looked at")


def _images(folder: Path, count: int, *, size: tuple[int, int] = (8, 6)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", size).save(folder / f"{number}.png")


def _videos(root: Path) -> list[RawVideo]:
    return [each for each in layout(root) if isinstance(each, RawVideo)]


def _rejected(root: Path) -> dict[str, str]:
    return {each.id: each.reason for each in layout(root) if isinstance(each, Rejected)}


def test_every_kind_of_raw_video_is_found_in_any_depth(tmp_path: Path) -> None:
    _touch(tmp_path, "a.mp4", "b/c.MKV", "b/d/e.webm", "notes.md")
    _images(tmp_path / "frames" / "one", 3)
    _images(tmp_path / "strips", 2, size=(60, 6))
    np.save(tmp_path / "b" / "x.npy", np.zeros(1))
    (tmp_path / "arrays").mkdir()
    np.savez(tmp_path / "arrays" / "y.npz", np.zeros(1))
    found = {video.id: video.kind for video in _videos(tmp_path)}
    assert found == {
        "a": "video",
        "arrays/y": "array",
        "b/c": "video",
        "b/d/e": "video",
        "frames/one": "frames",
        "strips/0": "strip",
        "strips/1": "strip",
    }


def test_order_is_natural_and_does_not_depend_on_the_disk(tmp_path: Path) -> None:
    _touch(tmp_path, "clip10.mp4", "clip2.mp4", "b/1.mp4", "clip01.mp4", "clip1.mp4", "²/x.mp4")
    assert [video.id for video in _videos(tmp_path)] == [
        "b/1",
        "clip01",
        "clip1",
        "clip2",
        "clip10",
        "²/x",
    ]


def test_files_that_differ_in_their_suffix_only_keep_it(tmp_path: Path) -> None:
    _touch(tmp_path, "a.mp4", "a.avi", "b.mp4")
    assert [video.id for video in _videos(tmp_path)] == ["a.avi", "a.mp4", "b"]


def test_ids_can_be_printed_whatever_the_name(tmp_path: Path) -> None:
    _touch(tmp_path, "line\nbreak.mp4", "-dash.mp4", "ünï 雪.mp4", "tab\there/x.mp4")
    with open(os.fsencode(tmp_path) + b"/bad\xff.mp4", "wb") as file:
        file.write(b"x")
    ids = [video.id for video in _videos(tmp_path)]
    assert sorted(ids) == sorted(["line%0Abreak", "-dash", "ünï 雪", "tab%09here/x", "bad%FF"])
    assert all(video.path.exists() for video in _videos(tmp_path))


def test_hidden_files_and_leftovers_of_other_systems_are_passed_over(tmp_path: Path) -> None:
    _touch(tmp_path, "._a.mp4", ".cache/b.mp4", "__MACOSX/c.mp4", "d.mp4")
    assert [video.id for video in _videos(tmp_path)] == ["d"]


def test_previews_beside_videos_are_no_frames_of_a_video(tmp_path: Path) -> None:
    _touch(tmp_path, "clips/a.mp4")
    _images(tmp_path / "clips", 2)
    assert [video.id for video in _videos(tmp_path)] == ["clips/a"]
    assert _rejected(tmp_path) == {"clips": "images beside videos"}


def test_arrays_beside_images_are_annotations(tmp_path: Path) -> None:
    _images(tmp_path / "VID_1", 3)
    np.save(tmp_path / "VID_1" / "prediction_0_10.flow.npy", np.zeros(1))
    assert [(video.id, video.kind) for video in _videos(tmp_path)] == [("VID_1", "frames")]


def test_one_folder_of_images_is_one_video(tmp_path: Path) -> None:
    _images(tmp_path / "my frames", 3)
    assert [video.id for video in _videos(tmp_path / "my frames")] == ["my frames"]


def test_one_file_is_a_dataset_of_one_video(tmp_path: Path) -> None:
    _touch(tmp_path, "a.mp4", "b.mp4")
    assert [video.id for video in _videos(tmp_path / "b.mp4")] == ["b"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    _touch(tmp_path, "elsewhere/x.mp4", "raw/a.mp4")
    (tmp_path / "raw" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "raw" / "loop").symlink_to(tmp_path / "raw")
    assert [video.id for video in _videos(tmp_path / "raw")] == ["a", "link/x"]


@pytest.mark.parametrize("word", ["val", "valid", "validation", "eval", "Val"])
def test_folders_named_after_splits_decide(tmp_path: Path, word: str) -> None:
    _touch(tmp_path, "train/a.mp4", f"{word}/b.mp4", "test/c.mp4", "fire/train/d.mp4", "e.mp4")
    found = {video.id: video.split for video in _videos(tmp_path)}
    assert found == {
        "train/a": "train",
        f"{word}/b": "val",
        "test/c": "test",
        "fire/train/d": "train",
    }
    assert _rejected(tmp_path) == {"e": "outside the splits"}


def test_a_test_folder_without_a_train_folder_is_an_ordinary_folder(tmp_path: Path) -> None:
    _touch(tmp_path, "test/a.mp4", "more/b.mp4")
    assert [video.split for video in _videos(tmp_path)] == [None, None]


def test_lists_decide_and_every_entry_is_accounted_for(tmp_path: Path) -> None:
    _touch(tmp_path, "x/a.mp4", "x/b.mp4", "c.mp4", "d.mp4")
    _images(tmp_path / "y" / "f", 2)
    (tmp_path / "train.txt").write_text("x/a\n./x/b.mp4\nx/a\n\ngone/1\n")
    (tmp_path / "test.txt").write_text("y/f/\r\nc")
    found = {video.id: video.split for video in _videos(tmp_path)}
    assert found == {"x/a": "train", "x/b": "train", "y/f": "test", "c": "test"}
    assert _rejected(tmp_path) == {"d": "not listed", "gone/1": "missing"}


def test_an_entry_in_two_lists_is_an_error(tmp_path: Path) -> None:
    _touch(tmp_path, "a.mp4")
    (tmp_path / "train.txt").write_text("a\n")
    (tmp_path / "test.txt").write_text("a\n")
    with pytest.raises(UserError, match="'a' is listed for train and for test"):
        layout(tmp_path)


def test_lists_that_name_nothing_here_are_an_error(tmp_path: Path) -> None:
    _touch(tmp_path, "a.mp4")
    (tmp_path / "train.txt").write_text("clips/a\n")
    with pytest.raises(UserError, match="name no video that is here") as caught:
        list(layout(tmp_path))
    assert caught.value.exit_code == 4
    assert "clips/a" in caught.value.details["they name"]


def test_clips_of_one_folder_are_one_group(tmp_path: Path) -> None:
    _touch(tmp_path, "yt1/yt1_1.mp4", "yt1/yt1_2.mp4", "yt2/yt2_1.mp4", "alone.mp4")
    assert {video.id: video.group for video in _videos(tmp_path)} == {
        "alone": "alone",
        "yt1/yt1_1": "yt1",
        "yt1/yt1_2": "yt1",
        "yt2/yt2_1": "yt2",
    }


@pytest.mark.parametrize("make", ["missing", "empty", "other files"])
def test_a_folder_with_nothing_to_prepare_is_an_error_with_a_remedy(
    tmp_path: Path, make: str
) -> None:
    raw = tmp_path / "raw"
    if make != "missing":
        raw.mkdir()
    if make == "other files":
        _touch(raw, "readme.txt", "sound.mp3")
    with pytest.raises(UserError, match="'raw'") as caught:
        list(layout(raw))
    assert caught.value.exit_code == 4
    assert str(raw) in caught.value.details.values()
    assert list(caught.value.details)[-1] == "to fix"
