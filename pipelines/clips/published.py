"""How the published systems take clips from each data set, as data (spec: datasets, 9).

What a family can be told in its settings (repeats per epoch, say) is in its presets; here is what a
measurement must repeat, and what hangs on a data set and not on a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.clips.held_out import evaluation_clips
from pipelines.clips.rules import (
    ClipRule,
    FrameClips,
    FramePairs,
    PoseClips,
    VideoClips,
)
from pipelines.clips.sampler import Plan
from pipelines.io.packed import PackedVideos

Start = Literal["any", "first", "middle"]


@dataclass(frozen=True)
class PublishedClips:
    """Clips of a system on a data set.

    training: the rule.  num_frames: of a clip.  step: prepared frames from one to the next.
    is_repeated_by_digit: a video occurs as often as the last digit of its id says (times what the
    settings say): of iPER the second action twice.
    test_start, test_repeats, test_clips: the clips of an evaluation, as in `evaluation_clips`.
    """

    training: Literal["videos", "every frame", "poses", "pairs"]
    num_frames: int
    step: int = 1
    is_repeated_by_digit: bool = False
    test_start: Start = "any"
    test_repeats: int = 1
    test_clips: int | None = None

    def rule(self, ids: Sequence[str], *, repeats: int = 1) -> ClipRule:
        """The rule for training on videos of these ids. repeats: times a video is in an epoch."""
        if self.training == "every frame":
            return FrameClips(self.num_frames, self.step)
        if self.training == "poses":
            return PoseClips(self.num_frames, self.step)
        if self.training == "pairs":
            return FramePairs(repeats)
        each = (
            [repeats * last_digit(video) for video in ids] if self.is_repeated_by_digit else repeats
        )
        return VideoClips(self.num_frames, self.step, repeats=each)

    def test_plan(self, videos: PackedVideos, rows: Sequence[int], *, seed: int = 0) -> Plan:
        """The clips of an evaluation on these videos."""
        return evaluation_clips(
            videos,
            rows,
            num_frames=self.num_frames,
            step=self.step,
            start=self.test_start,
            repeats=self.test_repeats,
            num_clips=self.test_clips,
            seed=seed,
        )


_TEXTURE = PublishedClips("videos", 17, test_start="first", test_repeats=6)

PUBLISHED_CLIPS = {
    ("cinn", "bair"): PublishedClips("videos", 17, test_start="first"),
    ("cinn", "iper"): PublishedClips("videos", 17, is_repeated_by_digit=True, test_clips=1000),
    ("cinn", "landscape"): PublishedClips("videos", 17, test_repeats=6),
    ("cinn", "dtdb"): _TEXTURE,
    ("poke", "plants"): PublishedClips("every frame", 11, step=2),
    ("poke", "iper"): PublishedClips("every frame", 11),
    ("poke", "taichi"): PublishedClips("every frame", 11, step=2),
    ("poke", "h36m"): PublishedClips("every frame", 11, step=2),
    ("behavior", "h36m"): PublishedClips("poses", 51, step=2),
    ("fomm", "*"): PublishedClips("pairs", 2),
    ("inbetween", "kth"): PublishedClips("videos", 16),
    ("inbetween", "bair"): PublishedClips("videos", 16),
}
"""(family, data set) -> clips; '*' stands for any data set."""


def published_clips(family: str, dataset: str) -> PublishedClips | None:
    """What a published system does on a data set, None where there is no such thing."""
    return PUBLISHED_CLIPS.get((family, dataset)) or PUBLISHED_CLIPS.get((family, "*"))


def last_digit(video_id: str) -> int:
    """The last character of an id as a number; 1 where it is none, or 0."""
    last = video_id[-1:]
    return max(1, int(last)) if last.isascii() and last.isdigit() else 1
