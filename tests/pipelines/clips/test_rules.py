"""Where the clips of each rule lie, and how often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pipelines.clips.rules import (
    Clip,
    ClipRule,
    FrameClips,
    FramePairs,
    Items,
    ListedClips,
    PoseClips,
    VideoClips,
)
from pipelines.clips.sampler import ClipSampler

ROWS, LENGTHS = (3, 5, 8, 9), (20, 17, 40, 18)

RULES = {
    "anywhere": VideoClips(17, repeats=3),
    "anywhere, every second frame": VideoClips(8, 2, repeats=(1, 2, 3, 4)),
    "from the first frame": VideoClips(17, start="first", repeats=2),
    "in the middle": VideoClips(5, 3, start="middle"),
    "from every frame": FrameClips(11),
    "from every frame, every second one": FrameClips(6, 2, num_flows=(10, 7, 30, 8)),
    "poses": PoseClips(17, 2),
    "pairs": FramePairs(repeats=4),
    "from a list": ListedClips(5, [[0, 3], [], [7, 35], [1]], step=2),
}


def epochs(rule: ClipRule, num: int, seed: int = 0) -> list[Clip]:
    clips = ClipSampler(ROWS, LENGTHS, rule, seed=seed)
    return [clips.clip(epoch, i) for epoch in range(num) for i in range(clips.clips_per_epoch)]


def counted(rule: ClipRule, num_epochs: int = 1) -> Counter[Clip]:
    return Counter(epochs(rule, num_epochs))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_clip_lies_within_its_video(rule: ClipRule) -> None:
    for row, start, step in epochs(rule, 8):
        length = LENGTHS[ROWS.index(row)]
        assert start >= 0
        assert step >= 0
        assert start + step * (rule.num_frames - 1) < length


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_fits_the_shortest_video_it_names(rule: ClipRule) -> None:
    if isinstance(rule, ListedClips):
        rule = ListedClips(rule.num_frames, [[0]], rule.step)
    if isinstance(rule, VideoClips):
        rule = VideoClips(rule.num_frames, rule.step, rule.start)
    if isinstance(rule, FrameClips):
        rule = FrameClips(rule.num_frames, rule.step)
    clips = ClipSampler([0], [rule.min_frames], rule, seed=0)
    for i in range(clips.clips_per_epoch):
        clip = clips.clip(0, i)
        assert 0 <= clip.start <= clip.start + clip.step * (rule.num_frames - 1) < rule.min_frames
    if rule.min_frames > 1:
        with pytest.raises(ValueError, match=f"{rule.min_frames} frames"):
            ClipSampler([0], [rule.min_frames - 1], rule, seed=0)


def test_videos_are_seen_as_often_as_asked_and_start_anywhere_with_the_same_chance() -> None:
    found = counted(VideoClips(16, repeats=(1, 1, 5, 1)), 400)
    seen = Counter(clip.row for clip in found.elements())
    assert seen == {3: 400, 5: 400, 8: 2000, 9: 400}
    starts = np.bincount([clip.start for clip in found.elements() if clip.row == 8])
    assert len(starts) == 25
    expected = 2000 / 25
    assert (starts > 0.6 * expected).all()
    assert ((starts - expected) ** 2 / expected).sum() < 50  # chi-squared, 24 degrees: p = 0.001


def test_a_start_may_be_the_first_frame_or_in_the_middle() -> None:
    first, middle = (counted(VideoClips(9, 2, start=start)) for start in ("first", "middle"))
    assert first == Counter({Clip(row, 0, 2): 1 for row in ROWS})
    assert middle == Counter([Clip(3, 1, 2), Clip(5, 0, 2), Clip(8, 11, 2), Clip(9, 0, 2)])


def test_every_frame_is_a_start_and_late_ones_share_the_last_clip() -> None:
    # 40 frames, clips of 11: published code never starts later than one frame before the last fit
    found = counted(FrameClips(11))
    assert found[Clip(8, 28)] == 40 - 28
    assert all(found[Clip(8, start)] == 1 for start in range(28))
    assert sum(found.values()) == sum(LENGTHS)
    with_step = counted(FrameClips(6, 2))
    assert with_step[Clip(8, 28, 2)] == 12


def test_no_clip_starts_where_its_flow_is_missing() -> None:
    found = counted(FrameClips(6, num_flows=(10, 7, 30, 8)))
    latest = {row: max(clip.start for clip in found if clip.row == row) for row in ROWS}
    assert latest == {3: 8, 5: 5, 8: 28, 9: 6}


POSE_CLIPS = {
    # frame, steps, lag, first and last frame of the video -> start, step, last frame of the clip
    (0, 50, 2, 0, 500): (0, 2, 100),
    (399, 50, 2, 0, 500): (399, 2, 499),
    (400, 50, 2, 0, 500): (400, 2, 500),
    (450, 50, 2, 0, 500): (400, 2, 500),
    (500, 50, 2, 0, 500): (400, 2, 500),
    (620, 50, 2, 501, 640): (540, 2, 640),
    (60, 50, 2, 0, 80): (30, 1, 80),
    (10, 50, 2, 0, 80): (30, 1, 80),
    (100, 59, 2, 0, 400): (100, 2, 218),
    (399, 59, 2, 0, 400): (282, 2, 400),
}
"""What the published code gives: the reference case behavior/clip_ids."""


@pytest.mark.parametrize(("query", "expected"), POSE_CLIPS.items())
def test_pose_clips_are_those_of_the_published_code(query, expected) -> None:
    frame, num_steps, lag, first, last = query
    items = Items(np.array([0]), np.array([frame - first]))
    rule, lengths = PoseClips(num_steps + 1, lag), np.array([last - first + 1])
    starts, steps = rule.place(items, lengths, np.random.default_rng(0))
    start, step = first + int(starts[0]), int(steps[0])
    assert (start, step, start + step * num_steps) == expected


def test_a_pose_clip_never_begins_in_the_video_before() -> None:
    # 100 frames hold 51 frames of lag 1 only; a lag of 2 needs 101
    clips = ClipSampler([0], [100], PoseClips(51, 2), seed=0)
    assert {clips.clip(0, i) for i in range(100)} == {Clip(0, 49, 1)}


def test_a_rule_for_poses_can_be_fitted_to_the_shortest_video() -> None:
    rule = PoseClips(51, 2)
    assert rule.fitted(101) == rule
    assert rule.fitted(100) == PoseClips(51, 1)
    assert rule.fitted(51) == PoseClips(51, 1)
    assert rule.fitted(40) == PoseClips(40, 1)


def test_pairs_are_two_frames_drawn_with_replacement_in_order() -> None:
    found = [clip for clip in epochs(FramePairs(repeats=30), 200) if clip.row == 5]
    length = 17
    assert all(clip.step >= 0 for clip in found)
    same = sum(clip.step == 0 for clip in found) / len(found)
    assert abs(same - 1 / length) < 0.02
    frames = [clip.start for clip in found] + [clip.start + clip.step for clip in found]
    counts = np.bincount(frames, minlength=length)
    assert counts.min() > 0.8 * counts.mean()
    pairs = Counter((clip.start, clip.step) for clip in found)
    assert len(pairs) == length * (length + 1) // 2


def test_listed_clips_start_where_the_list_says_if_they_fit() -> None:
    assert counted(ListedClips(5, [[0, 3], [], [7, 35], [1]])) == Counter(
        [Clip(3, 0), Clip(3, 3), Clip(8, 7), Clip(8, 35), Clip(9, 1)]
    )
    assert Clip(8, 35, 2) not in counted(ListedClips(5, [[0, 3], [], [7, 35], [1]], step=2))
    with pytest.raises(ValueError, match="no clip"):
        ClipSampler(ROWS, LENGTHS, ListedClips(5, [[]] * 4), seed=0)
