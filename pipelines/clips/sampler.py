"""Which clip comes next: a pure function of the seed and of a position.

A position counts clips from the start of the training; it is an epoch and an index within it. A
training that goes on, or one of several processes, needs to know no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from pipelines.clips.rules import Clip, ClipRule, Items, Placed
from pipelines.training.generators import numpy_generator


class Plan(NamedTuple):
    """The clips of a batch, all of num_frames frames."""

    clips: list[Clip]
    num_frames: int


class Sampler(Protocol):
    """What a training needs of a sampler: ClipSampler, SeveralLengths."""

    @property
    def clips_per_epoch(self) -> int:
        """Clips in an epoch."""
        ...

    def epoch_at(self, position: int) -> int:
        """The epoch that the clip at a position belongs to."""
        ...

    def plan(self, batch: int, batch_size: int) -> Plan:
        """The clips of a batch: those at positions batch * batch_size and following."""
        ...


class ClipSampler:
    """Draws clips by a rule: each epoch goes through all the rule's items, in a new order.

    firsts: the frame at which the part of each video that is used begins; lengths count from it.
    identities: one for each video; the rule's items are then those of the identities, and for each
    item one of its videos is drawn. The rule must not list frames then.
    weights: one for each video; items are then drawn with replacement, each with the chance that
    its video's weight gives it, instead of once each.
    still_share: chance of a clip to be the start frame all the time (step 0).
    """

    def __init__(
        self,
        rows: Sequence[int],
        lengths: Sequence[int] | np.ndarray,
        rule: ClipRule,
        *,
        seed: int,
        firsts: Sequence[int] | None = None,
        identities: Sequence[Hashable] | None = None,
        weights: Sequence[float] | np.ndarray | None = None,
        still_share: float = 0.0,
    ) -> None:
        """rows, lengths: row in the prepared data and number of frames of each video."""
        if not len(rows) or min(lengths) < rule.min_frames:
            raise ValueError(f"every video must have {rule.min_frames} frames, and there be one")
        self.rule = rule
        self._rows = np.asarray(rows, np.int64)
        self._lengths = np.asarray(lengths, np.int64)
        self._firsts = np.zeros_like(self._rows) if firsts is None else np.asarray(firsts)
        self._members = None if identities is None else _Members(identities)
        self._seed, self._still_share = seed, still_share
        listed = self._lengths if self._members is None else self._members.counts
        self._items = rule.items(listed)
        self._chances = None if weights is None else _chances(self._items, weights)
        self.clips_per_epoch = len(self._items.videos)
        if not self.clips_per_epoch:
            raise ValueError("the rule finds no clip in these videos")
        self._drawn: tuple[int, np.ndarray] | None = None

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""
        return self.rule.num_frames

    def epoch_at(self, position: int) -> int:
        """The epoch that the clip at a position belongs to."""
        return position // self.clips_per_epoch

    def at(self, position: int) -> Clip:
        """The clip at a position, counted from the start of the training over all epochs."""
        return self.clip(*divmod(position, self.clips_per_epoch))

    def clip(self, epoch: int, index: int) -> Clip:
        """Item `index` of an epoch."""
        row, start, step = self._epoch(epoch)[index].tolist()
        return Clip(row, start, step)

    def plan(self, batch: int, batch_size: int) -> Plan:
        """The clips of a batch. An epoch may end inside one."""
        positions = range(batch * batch_size, (batch + 1) * batch_size)
        return Plan([self.at(position) for position in positions], self.num_frames)

    def _epoch(self, epoch: int) -> np.ndarray:
        """Row, start and step of all clips of an epoch, in order: N 3."""
        drawn = self._drawn
        if drawn is None or drawn[0] != epoch:
            drawn = self._drawn = (epoch, self._draw(epoch))
        return drawn[1]

    def _draw(self, epoch: int) -> np.ndarray:
        items = self._items.taken(self._order(epoch))
        if self._members is not None:
            random = numpy_generator(self._seed, "clip members", epoch)
            items = Items(self._members.draw(items.videos, random), items.frames)
        random = numpy_generator(self._seed, "clip starts", epoch)
        starts, steps = self.rule.place(items, self._lengths, random)
        if self._still_share:
            is_still = numpy_generator(self._seed, "still clips", epoch).random(len(steps))
            steps = np.where(is_still < self._still_share, 0, steps)
        videos = items.videos
        return np.stack((self._rows[videos], self._firsts[videos] + starts, steps), axis=1)

    def _order(self, epoch: int) -> np.ndarray:
        random = numpy_generator(self._seed, "clip order", epoch)
        if self._chances is None:
            return random.permutation(self.clips_per_epoch)
        drawn = random.random(self.clips_per_epoch)
        return np.searchsorted(self._chances, drawn, side="right")


class SeveralLengths:
    """Each batch comes from one of several samplers, drawn for the batch: clips of several lengths.

    weights: how often each is drawn.  A position within a batch means the same in every sampler, so
    samplers of the same seed and the same items agree on the item and differ in the clip's length.
    """

    def __init__(
        self, samplers: Sequence[ClipSampler], weights: Sequence[float], *, seed: int
    ) -> None:
        """An epoch is as long as that of the first sampler."""
        if len(samplers) != len(weights) or min(weights) < 0 or not sum(weights):
            raise ValueError("one weight for each sampler, none below 0, one above")
        self._samplers, self._seed = tuple(samplers), seed
        self._chances = _cumulative(np.asarray(weights, np.float64))
        self.clips_per_epoch = samplers[0].clips_per_epoch

    def epoch_at(self, position: int) -> int:
        """The epoch that the clip at a position belongs to."""
        return position // self.clips_per_epoch

    def plan(self, batch: int, batch_size: int) -> Plan:
        """The clips of a batch, all from one sampler."""
        drawn = numpy_generator(self._seed, "clip length", batch).random()
        chosen = int(np.searchsorted(self._chances, drawn, side="right"))
        return self._samplers[chosen].plan(batch, batch_size)


class Partners:
    """For each clip another one: of a video with the same label, or with another label.

    Every frame of the videos in question has the same chance to be the one whose clip the rule
    gives; another partner in each epoch.
    """

    def __init__(
        self,
        rows: Sequence[int],
        lengths: Sequence[int] | np.ndarray,
        labels: Sequence[Hashable],
        *,
        has_same_label: bool,
        seed: int,
    ) -> None:
        """rows, lengths, labels: of each video, such as its action."""
        numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        if not has_same_label and len(numbers) < 2:
            raise ValueError("partners with another label need two labels")
        kinds = np.asarray([numbers[label] for label in labels])
        order = np.argsort(kinds, kind="stable")
        self._rows = np.asarray(rows, np.int64)[order]
        self._lengths = np.asarray(lengths, np.int64)[order]
        self._ends = np.cumsum(self._lengths)
        frames = np.bincount(kinds, weights=np.asarray(lengths)).astype(np.int64)
        self._kind_frames, self._kind_firsts = frames, np.cumsum(frames) - frames
        self._kind_of_row = dict(zip(self._rows.tolist(), kinds[order].tolist(), strict=True))
        self._has_same_label, self._seed = has_same_label, seed

    def of(self, plan: Plan, batch: int, rule: ClipRule) -> Plan:
        """A partner for each clip of a batch, by a rule that places clips at frames."""
        kinds = np.asarray([self._kind_of_row[clip.row] for clip in plan.clips])
        own, firsts = self._kind_frames[kinds], self._kind_firsts[kinds]
        meaning = "clip partners alike" if self._has_same_label else "clip partners"
        drawn = numpy_generator(self._seed, meaning, batch).random(len(kinds))
        if self._has_same_label:
            frames = firsts + (drawn * own).astype(np.int64)
        else:
            frames = (drawn * (self._ends[-1] - own)).astype(np.int64)
            frames += np.where(frames >= firsts, own, 0)
        videos = np.searchsorted(self._ends, frames, side="right")
        frames -= self._ends[videos] - self._lengths[videos]
        random = numpy_generator(self._seed, meaning, "starts", batch)
        placed: Placed = rule.place(Items(videos, frames), self._lengths, random)
        rows = self._rows[videos].tolist()
        places = zip(rows, placed.starts.tolist(), placed.steps.tolist(), strict=True)
        return Plan([Clip(*place) for place in places], rule.num_frames)


def balanced_weights(labels: Sequence[Hashable], lengths: Sequence[int]) -> np.ndarray:
    """Weights of videos with which every label is drawn equally often, frame by frame."""
    frames: Counter[Hashable] = Counter()
    for label, length in zip(labels, lengths, strict=True):
        frames[label] += length
    return np.asarray([1 / (frames[label] * len(frames)) for label in labels])


class _Members:
    """Which videos belong to each identity."""

    def __init__(self, identities: Sequence[Hashable]) -> None:
        numbers = {each: number for number, each in enumerate(dict.fromkeys(identities))}
        owners = np.asarray([numbers[each] for each in identities])
        self._videos = np.argsort(owners, kind="stable")
        self.counts = np.bincount(owners)
        self._firsts = np.cumsum(self.counts) - self.counts

    def draw(self, owners: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A video of each owner."""
        return self._videos[self._firsts[owners] + random.integers(0, self.counts[owners])]


def _chances(items: Items, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    return _cumulative(np.asarray(weights, np.float64)[items.videos])


def _cumulative(weights: np.ndarray) -> np.ndarray:
    """Upper ends, in [0, 1], of the intervals of numbers that stand for each choice."""
    ends = np.cumsum(weights / weights.sum())
    ends[np.flatnonzero(weights)[-1] :] = 1.0  # no sum of rounded numbers decides the last one
    return ends
