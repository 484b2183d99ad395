"""Clips of an evaluation are always the same ones, and a list of them can be handed on."""

from __future__ import annotations

import json

import pytest

from pipelines.clips.held_out import evaluation_clips, read_clip_list, write_clip_list
from pipelines.clips.rules import Clip
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError


def test_clips_of_an_evaluation_lie_first_in_the_middle_or_anywhere(videos) -> None:
    rows = videos.select("test")
    assert rows == [5, 6]
    first = evaluation_clips(videos, rows, num_frames=9, start="first")
    assert first.clips == [Clip(5, 0), Clip(6, 0)]
    middle = evaluation_clips(videos, rows, num_frames=9, step=2, start="middle")
    assert middle.clips == [Clip(5, 6, 2), Clip(6, 3, 2)]
    anywhere = evaluation_clips(videos, rows, num_frames=9, repeats=300)
    assert [clip.row for clip in anywhere.clips] == [5] * 300 + [6] * 300
    assert {clip.start for clip in anywhere.clips[:300]} == set(range(22))


def test_a_number_of_clips_goes_through_the_videos_again_and_again(videos) -> None:
    plan = evaluation_clips(videos, videos.select("test"), num_frames=9, num_clips=5)
    assert [clip.row for clip in plan.clips] == [5, 6, 5, 6, 5]
    assert plan.clips[0] != plan.clips[2] != plan.clips[4]


def test_a_videos_clips_do_not_depend_on_the_other_videos(videos) -> None:
    alone = evaluation_clips(videos, [6], num_frames=9, repeats=3).clips
    together = evaluation_clips(videos, [2, 5, 6], num_frames=9, repeats=3).clips
    assert together[-3:] == alone
    assert evaluation_clips(videos, [6], num_frames=9, repeats=3, seed=1).clips != alone


def test_a_list_of_clips_comes_back_as_it_was_written(videos, tmp_path) -> None:
    plan = evaluation_clips(videos, videos.select("test"), num_frames=5, step=2, repeats=4)
    write_clip_list(tmp_path / "clips.json", videos, plan)
    assert read_clip_list(tmp_path / "clips.json", videos) == plan
    assert "ivy/d" in (tmp_path / "clips.json").read_text(encoding="utf-8")


def changed(path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_list_that_the_data_does_not_hold_names_what_is_missing(videos, tmp_path) -> None:
    path = tmp_path / "clips.json"
    write_clip_list(path, videos, evaluation_clips(videos, [5], num_frames=5))
    changed(path, clips=[["ivy/d", 0, 1], ["oak/x", 0, 1], ["ivy/d", 26, 1], ["ivy/d", 3, -1]])
    with pytest.raises(UserError, match="3 of the 4 clips") as caught:
        read_clip_list(path, videos)
    assert caught.value.exit_code == EXIT_NO_DATA
    assert caught.value.details["missing"] == "oak/x, ivy/d"


@pytest.mark.parametrize(
    "values",
    [{"format": "other"}, {"version": 2}, {"num_frames": 0}, {"clips": [["a", 1]]}, {"clips": 3}],
    ids=str,
)
def test_a_file_that_is_no_list_is_refused(videos, tmp_path, values) -> None:
    path = tmp_path / "clips.json"
    write_clip_list(path, videos, evaluation_clips(videos, [5], num_frames=5))
    changed(path, **values)
    with pytest.raises(UserError, match="not a list of clips") as caught:
        read_clip_list(path, videos)
    assert caught.value.exit_code == EXIT_USAGE


def test_files_that_are_torn_or_not_there_are_told_apart(videos, tmp_path) -> None:
    path = tmp_path / "clips.json"
    with pytest.raises(UserError, match="no such list"):
        read_clip_list(path, videos)
    for content in (b"{", b"\xff\xfe", b"[]", b"null"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a list of clips"):
            read_clip_list(path, videos)


def test_a_video_that_is_too_short_is_a_mistake_of_the_caller(videos) -> None:
    with pytest.raises(ValueError, match="fern/b has fewer than 19 frames"):
        evaluation_clips(videos, [2, 3], num_frames=10, step=2)
