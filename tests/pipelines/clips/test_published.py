"""What each published system takes from each data set."""

from __future__ import annotations

from collections import Counter

import pytest

from pipelines.clips.published import PUBLISHED_CLIPS, last_digit, published_clips
from pipelines.clips.rules import FrameClips, FramePairs, PoseClips, VideoClips
from pipelines.clips.training_data import sampler_of

TRAINING = {
    ("cinn", "bair"): VideoClips(17, repeats=3),
    ("cinn", "landscape"): VideoClips(17, repeats=3),
    ("cinn", "dtdb"): VideoClips(17, repeats=3),
    ("poke", "plants"): FrameClips(11, 2),
    ("poke", "iper"): FrameClips(11, 1),
    ("poke", "taichi"): FrameClips(11, 2),
    ("poke", "h36m"): FrameClips(11, 2),
    ("behavior", "h36m"): PoseClips(51, 2),
    ("fomm", "anything"): FramePairs(3),
    ("inbetween", "kth"): VideoClips(16, repeats=3),
    ("inbetween", "bair"): VideoClips(16, repeats=3),
}


@pytest.mark.parametrize(("place", "rule"), TRAINING.items(), ids=map("-".join, TRAINING))
def test_each_data_set_is_trained_on_by_the_published_rule(place, rule) -> None:
    found = published_clips(*place)
    assert found is not None
    assert found.rule(["001_1_1", "001_1_2"], repeats=3) == rule


def test_every_published_rule_is_checked_here() -> None:
    checked = {*TRAINING, ("cinn", "iper"), ("fomm", "*")} - {("fomm", "anything")}
    assert set(PUBLISHED_CLIPS) == checked
    assert published_clips("poke", "kth") is None


def test_of_iper_the_second_action_is_seen_twice_as_often(videos) -> None:
    rows = videos.select("train", ["001_*"])
    rule = PUBLISHED_CLIPS["cinn", "iper"].rule([videos.ids[row] for row in rows], repeats=60)
    sampler = sampler_of(videos, rows, rule, seed=0)
    seen = Counter(sampler.clip(0, i).row for i in range(sampler.clips_per_epoch))
    assert seen == {0: 60, 1: 120}
    assert [last_digit(each) for each in ("a_3", "b", "", "x0", "²")] == [3, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("dataset", "num_clips", "starts"),
    [
        ("bair", 2, {0}),
        ("dtdb", 12, {0}),
        ("landscape", 12, set(range(14))),
        ("iper", 1000, set(range(14))),
    ],
)
def test_each_data_set_is_evaluated_by_the_published_rule(
    videos, dataset, num_clips, starts
) -> None:
    plan = PUBLISHED_CLIPS["cinn", dataset].test_plan(videos, videos.select("test"))
    assert plan.num_frames == 17
    assert len(plan.clips) == num_clips
    assert {clip.start for clip in plan.clips} <= starts
    if num_clips == 1000:
        assert {clip.start for clip in plan.clips if clip.row == 5} == starts
