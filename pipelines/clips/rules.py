"""Which clips there are, and where each lies: one rule for every way the published systems do it.

A rule lists the items of an epoch (what is seen once: a video, or a frame of it) and, when they are
in order, places a clip for each of them. All of it is done for a whole epoch at once, with arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import numpy as np


class Clip(NamedTuple):
    """Frames start, start + step, start + 2 step, ... of the video in a row of the prepared data.

    step 0: the start frame again and again, a video in which nothing moves.
    """

    row: int
    start: int
    step: int = 1


class Items(NamedTuple):
    """What an epoch goes through. videos: numbers of videos.  frames: a frame of each; or 0."""

    videos: np.ndarray
    frames: np.ndarray

    def taken(self, order: np.ndarray) -> Items:
        """Some of them, in an order."""
        return Items(self.videos[order], self.frames[order])


class Placed(NamedTuple):
    """Where the clips of some items lie. starts, steps: in frames, int64."""

    starts: np.ndarray
    steps: np.ndarray


class ClipRule(Protocol):
    """How clips are taken from videos of given lengths (int64 array, in frames)."""

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""
        ...

    @property
    def min_frames(self) -> int:
        """Frames of the shortest video that has a clip."""
        ...

    def items(self, lengths: np.ndarray) -> Items:
        """The items of an epoch, before they are shuffled."""
        ...

    def place(self, items: Items, lengths: np.ndarray, random: np.random.Generator) -> Placed:
        """A clip for each item."""
        ...


@dataclass(frozen=True)
class VideoClips:
    """Each video is seen `repeats` times in an epoch.

    start: anywhere that leaves room for the clip, at the video's first frame, or in its middle.
    repeats: one number, or one for each video.
    """

    num_frames: int
    step: int = 1
    start: Literal["any", "first", "middle"] = "any"
    repeats: int | Sequence[int] = 1

    @property
    def min_frames(self) -> int:
        """Frames from a clip's first to its last."""
        return (self.num_frames - 1) * self.step + 1

    def items(self, lengths: np.ndarray) -> Items:
        """Each video, repeated."""
        videos = np.repeat(np.arange(len(lengths)), np.asarray(self.repeats))
        return Items(videos, np.zeros_like(videos))

    def place(self, items: Items, lengths: np.ndarray, random: np.random.Generator) -> Placed:
        """A start for each of them."""
        places = lengths[items.videos] - self.min_frames + 1
        if self.start == "any":
            starts = random.integers(0, places)
        else:
            starts = (places - 1) // 2 if self.start == "middle" else np.zeros_like(places)
        return Placed(starts, np.full_like(starts, self.step))


@dataclass(frozen=True)
class FrameClips:
    """Every frame is the start of a clip once in an epoch; those too late start where one fits.

    So the last clip of a video is seen more often than any other. As published, a clip leaves at
    least the last frame of its video out (one of a video that is just long enough does not).
    num_flows: for each video, how many of its frames have the flow that goes with a clip.
    """

    num_frames: int
    step: int = 1
    num_flows: Sequence[int] | None = None

    @property
    def min_frames(self) -> int:
        """Frames from a clip's first to its last."""
        return (self.num_frames - 1) * self.step + 1

    def items(self, lengths: np.ndarray) -> Items:
        """Every frame of every video."""
        return _every_frame(lengths)

    def place(self, items: Items, lengths: np.ndarray, random: np.random.Generator) -> Placed:
        """The frame itself, or the last start there is."""
        latest = lengths - self.min_frames - 1
        if self.num_flows is not None:
            latest = np.minimum(latest, np.asarray(self.num_flows) - 2)
        starts = np.minimum(items.frames, np.maximum(latest, 0)[items.videos])
        return Placed(starts, np.full_like(starts, self.step))


@dataclass(frozen=True)
class PoseClips:
    """Every frame is the start of a clip of every `lag`-th frame; one too late ends with its video.

    A video shorter than such a clip gives one of closer frames: of every frame, if need be.
    """

    num_frames: int
    lag: int = 2

    @property
    def min_frames(self) -> int:
        """As many as a clip has."""
        return self.num_frames

    def fitted(self, shortest: int) -> PoseClips:
        """The rule with a smaller lag, then with fewer frames, so that no video need differ."""
        lag = min(self.lag, (shortest - 1) // max(1, self.num_frames - 1))
        if lag >= 1:
            return replace(self, lag=lag)
        return replace(self, lag=1, num_frames=shortest)

    def items(self, lengths: np.ndarray) -> Items:
        """Every frame of every video."""
        return _every_frame(lengths)

    def place(self, items: Items, lengths: np.ndarray, random: np.random.Generator) -> Placed:
        """The frame itself, or the start from which the clip ends with the video's last frame."""
        steps_taken = self.num_frames - 1
        last = lengths[items.videos] - 1
        starts, steps = items.frames, np.full_like(items.frames, self.lag)
        is_late = starts + self.lag * steps_taken + 1 > last
        starts = np.where(is_late, last - self.lag * steps_taken, starts)
        closer = np.maximum(1, last // max(1, steps_taken))
        steps = np.where(starts < 0, closer, steps)
        starts = np.where(starts < 0, last - closer * steps_taken, starts)
        return Placed(starts, steps)


@dataclass(frozen=True)
class FramePairs:
    """Two frames of a video, each drawn for itself (maybe the same), the earlier one first."""

    repeats: int | Sequence[int] = 1

    num_frames = 2
    min_frames = 1

    def items(self, lengths: np.ndarray) -> Items:
        """Each video, repeated."""
        return VideoClips(1, repeats=self.repeats).items(lengths)

    def place(self, items: Items, lengths: np.ndarray, random: np.random.Generator) -> Placed:
        """The earlier frame, and how far the later one is away."""
        drawn = random.integers(0, lengths[items.videos][:, None], size=(len(items.videos), 2))
        first, second = np.sort(drawn, axis=1).T
        return Placed(first, second - first)


@dataclass(frozen=True)
class ListedClips:
    """Clips that start where a list says, each once in an epoch.

    starts: for each video, its frames at which a clip may start (maybe none).
    """

    num_frames: int
    starts: Sequence[Sequence[int] | np.ndarray]
    step: int = 1

    @property
    def min_frames(self) -> int:
        """Frames from a clip's first to its last."""
        return (self.num_frames - 1) * self.step + 1

    def items(self, lengths: np.ndarray) -> Items:
        """Every start in the list that leaves room for a clip."""
        counts = [len(each) for each in self.starts]
        videos = np.repeat(np.arange(len(counts)), counts)
        frames = np.concatenate([np.asarray(each, np.int64) for each in self.starts])
        return Items(videos, frames).taken(frames + self.min_frames <= lengths[videos])

    def place(self, items: Items, lengths: np.ndarray, random: np.random.Generator) -> Placed:
        """Where the list says."""
        return Placed(items.frames, np.full_like(items.frames, self.step))


def _every_frame(lengths: np.ndarray) -> Items:
    videos = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    return Items(videos, np.arange(len(videos)) - first[videos])
