"""Which clip comes next depends on the seed and the position alone, whatever the sampler does."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable

import pytest

from pipelines.clips.rules import (
    Clip,
    FrameClips,
    FramePairs,
    ListedClips,
    PoseClips,
    VideoClips,
)
from pipelines.clips.sampler import (
    ClipSampler,
    Partners,
    Plan,
    Sampler,
    SeveralLengths,
    balanced_weights,
)

ROWS, LENGTHS = (3, 5, 8, 9), (20, 17, 40, 18)
ACTIONS = ("walk", "wave", "walk", "box")


def several_lengths(seed: int) -> SeveralLengths:
    lengths = (5, 6, 7)
    samplers = [ClipSampler(ROWS, LENGTHS, PoseClips(n), seed=seed) for n in lengths]
    return SeveralLengths(samplers, (1, 0, 2), seed=seed)


SAMPLERS: dict[str, Callable[[int], Sampler]] = {
    "videos": lambda seed: ClipSampler(ROWS, LENGTHS, VideoClips(7, repeats=4), seed=seed),
    "frames": lambda seed: ClipSampler(ROWS, LENGTHS, FrameClips(7, 2), seed=seed),
    "poses": lambda seed: ClipSampler(ROWS, LENGTHS, PoseClips(7, 2), seed=seed),
    "pairs": lambda seed: ClipSampler(ROWS, LENGTHS, FramePairs(5), seed=seed),
    "weighted, some still": lambda seed: ClipSampler(
        ROWS, LENGTHS, FrameClips(7), seed=seed, weights=(1, 2, 0, 3), still_share=0.25
    ),
    "identities": lambda seed: ClipSampler(
        ROWS, LENGTHS, VideoClips(7, repeats=6), seed=seed, identities="aabb"
    ),
    "several lengths": several_lengths,
}


def plans(sampler: Sampler, batches: range, batch_size: int = 8) -> list[Plan]:
    return [sampler.plan(batch, batch_size) for batch in batches]


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
def test_a_batch_depends_on_seed_and_number_alone(make) -> None:
    straight = plans(make(1), range(40))
    sampler = make(1)
    for batch in (30, 2, 17, 2, 39, 0):
        assert sampler.plan(batch, 8) == straight[batch]
        assert make(1).plan(batch, 8) == straight[batch]
    assert plans(make(2), range(40)) != straight


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "several lengths"])
def test_the_size_of_a_batch_does_not_change_the_order_of_clips(name: str) -> None:
    sampler = SAMPLERS[name](0)
    small = [clip for plan in plans(sampler, range(24), 4) for clip in plan.clips]
    large = [clip for plan in plans(sampler, range(8), 12) for clip in plan.clips]
    assert small == large


def test_clips_of_the_simple_rule_are_those_of_earlier_versions() -> None:
    sampler = ClipSampler(ROWS, LENGTHS, VideoClips(17, repeats=3), seed=7)
    found = [tuple(sampler.at(p)[:2]) for p in (0, 1, 2, 11, 12, 13, 40, 1000)]
    assert found == [(8, 9), (3, 1), (3, 0), (5, 0), (8, 2), (8, 17), (9, 1), (3, 2)]
    lengths = [17 + i % 37 for i in range(500)]
    sampler = ClipSampler(range(500), lengths, VideoClips(17, repeats=2), seed=42)
    places = [tuple(sampler.at(p)[:2]) for p in range(2500)]
    digest = hashlib.sha256(repr(places).encode()).hexdigest()
    assert digest == "035e83ca52205fb846a6d3bd0bca810c10dc89d8d40bc98a1ddddb28a1992c9a"


def test_weights_decide_how_often_a_video_is_drawn() -> None:
    weights = (1.0, 4.0, 0.0, 2.0)
    sampler = ClipSampler(ROWS, LENGTHS, VideoClips(7, repeats=50), seed=0, weights=weights)
    seen = Counter(sampler.at(p).row for p in range(20_000))
    assert 8 not in seen
    for row, weight in zip(ROWS, weights, strict=True):
        assert seen[row] / 20_000 == pytest.approx(weight / 7, abs=0.02)


def test_balanced_weights_show_every_object_equally_often() -> None:
    labels = ("fern", "fern", "palm", "ivy")
    weights = balanced_weights(labels, LENGTHS)
    assert (weights * LENGTHS).sum() == pytest.approx(1)
    sampler = ClipSampler(ROWS, LENGTHS, FrameClips(7), seed=0, weights=weights)
    of_row = dict(zip(ROWS, labels, strict=True))
    seen = Counter(of_row[sampler.at(p).row] for p in range(20_000))
    assert all(count / 20_000 == pytest.approx(1 / 3, abs=0.02) for count in seen.values())


def test_a_share_of_the_clips_stands_still() -> None:
    rule = FrameClips(7)
    moving = ClipSampler(ROWS, LENGTHS, rule, seed=0)
    some_still = ClipSampler(ROWS, LENGTHS, rule, seed=0, still_share=1 / 8)
    pairs = [(moving.at(p), some_still.at(p)) for p in range(8000)]
    assert all(a == b or b == Clip(a.row, a.start, 0) for a, b in pairs)
    assert sum(b.step == 0 for _, b in pairs) / 8000 == pytest.approx(1 / 8, abs=0.015)


def test_each_identity_is_seen_equally_often_through_any_of_its_videos() -> None:
    rule = VideoClips(7, repeats=10)
    sampler = ClipSampler(ROWS, LENGTHS, rule, seed=0, identities=("a", "b", "a", "a"))
    assert sampler.clips_per_epoch == 20
    for epoch in range(5):
        rows = [sampler.clip(epoch, i).row for i in range(20)]
        assert rows.count(5) == 10
    seen = Counter(sampler.at(p).row for p in range(4000))
    for row in (3, 8, 9):
        assert seen[row] / 4000 == pytest.approx(1 / 6, abs=0.03)


def test_a_part_of_a_video_can_be_used_and_one_video_in_several_parts() -> None:
    rule = VideoClips(16)
    sampler = ClipSampler([4, 4, 6], [16, 20, 18], rule, seed=0, firsts=[0, 60, 7])
    found = {sampler.at(p) for p in range(600)}
    assert found == {Clip(4, 0)} | {Clip(4, 60 + k) for k in range(5)} | {
        Clip(6, 7 + k) for k in range(3)
    }


def test_a_batch_has_clips_of_one_length_and_lengths_come_as_often_as_asked() -> None:
    sampler = several_lengths(0)
    found = plans(sampler, range(1500))
    lengths = Counter(plan.num_frames for plan in found)
    assert set(lengths) == {5, 7}
    assert lengths[7] / 1500 == pytest.approx(2 / 3, abs=0.04)
    rows = [clip.row for plan in found for clip in plan.clips]
    seen = Counter(rows)
    for row, length in zip(ROWS, LENGTHS, strict=True):
        assert seen[row] / len(rows) == pytest.approx(length / sum(LENGTHS), abs=0.02)


def test_clips_of_several_lengths_may_come_from_pools_of_their_own() -> None:
    short = ClipSampler([0], [40], ListedClips(5, [[1, 2, 3]]), seed=0)
    long = ClipSampler([0], [40], ListedClips(9, [[20, 30]]), seed=0)
    for plan in plans(SeveralLengths([short, long], (1, 1), seed=0), range(60)):
        allowed = {5: {1, 2, 3}, 9: {20, 30}}[plan.num_frames]
        assert {clip.start for clip in plan.clips} == allowed


def test_partners_share_the_action_or_have_another() -> None:
    action = dict(zip(ROWS, ACTIONS, strict=True))
    rule = PoseClips(7, 2)
    sampler = ClipSampler(ROWS, LENGTHS, rule, seed=0)
    alike = Partners(ROWS, LENGTHS, ACTIONS, has_same_label=True, seed=0)
    unlike = Partners(ROWS, LENGTHS, ACTIONS, has_same_label=False, seed=0)
    rows: dict[str, Counter[int]] = {"walk": Counter(), "wave": Counter(), "box": Counter()}
    for batch in range(1500):
        plan = sampler.plan(batch, 8)
        same, other = alike.of(plan, batch, rule), unlike.of(plan, batch, rule)
        for clip, a, b in zip(plan.clips, same.clips, other.clips, strict=True):
            assert action[a.row] == action[clip.row] != action[b.row]
            rows[action[clip.row]][b.row] += 1
    # of the walkers' partners, each frame of the other two videos as often as any other
    share = rows["walk"][5] / rows["walk"].total()
    assert share == pytest.approx(17 / 35, abs=0.03)
    assert set(rows["box"]) == {3, 5, 8}


def test_partners_are_a_pure_function_and_new_in_every_epoch() -> None:
    rule = PoseClips(7, 2)
    plan = ClipSampler(ROWS, LENGTHS, rule, seed=0).plan(3, 8)
    make = [Partners(ROWS, LENGTHS, ACTIONS, has_same_label=False, seed=5) for _ in range(2)]
    make[0].of(plan, 9, rule)
    assert make[0].of(plan, 3, rule) == make[1].of(plan, 3, rule)
    assert make[0].of(plan, 3, rule) != make[0].of(plan, 4, rule)
    with pytest.raises(ValueError, match="two labels"):
        Partners(ROWS, LENGTHS, ["walk"] * 4, has_same_label=False, seed=0)
