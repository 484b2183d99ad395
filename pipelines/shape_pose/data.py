"""Pictures of people with their joints from prepared data (spec: behavior, 5; 3.3)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.clips.batches import Reading, load_batch, own_part, prefetched
from pipelines.clips.rules import Clip, ListedClips
from pipelines.clips.sampler import ClipSampler, Plan, balanced_weights
from pipelines.clips.training_data import open_videos
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.io.packed import PackedVideos
from pipelines.shape_pose.config import FamilyConfig
from pipelines.shape_pose.part_crops import part_transforms
from pipelines.shape_pose.skeletons import BY_JOINTS, SKELETONS, Skeleton
from pipelines.shape_pose.stick_figure import stick_figure

MAX_HELD_OUT = 64
PUBLISHED_TRAIN_ACTIONS = (2, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 16)
PUBLISHED_TEST_ACTIONS = (8, 12, 13, 14)
"""Of Human3.6M; all test actions are trained on as well."""

Arrays = dict[str, np.ndarray]
"""image: uint8 B S S 3.  figure: uint8 B S S 3, stick figures.  joints: float32 B J 2, fractions.
parts: float32 B P 3 3, matrices from the picture to each part, zeros where it is not seen.
With `other_` before their names: image, joints and parts of images for the regressor."""


@dataclass(frozen=True)
class People:
    """Pictures to train on and held-out ones. num_others: images for the regressor, per sample."""

    videos: PackedVideos
    sampler: ClipSampler
    others: ClipSampler
    num_others: int
    held_out: list[Clip]
    config: FamilyConfig

    @property
    def skeleton(self) -> Skeleton:
        """Of the joints."""
        return SKELETONS[BY_JOINTS[self.config.people.joints]]

    def load(self, clips: Sequence[Clip], *, has_figure: bool = True) -> Arrays:
        """The arrays of some pictures."""
        name, network = self.config.people.joints, self.config.network
        reading = Reading(extras=(name,))
        batch = load_batch(self.videos, Plan(list(clips), 1), reading=reading)
        assert batch.frames is not None
        image, joints = batch.frames[:, 0], batch.extras[name][:, 0].astype(np.float32)
        if image.shape[-1] == 1:
            image = image.repeat(3, axis=-1)
        arrays = {"image": image, "joints": joints}
        pixels = joints * network.size_px
        if has_figure:
            arrays["figure"] = np.stack(
                [stick_figure(each, network.size_px, skeleton=self.skeleton) for each in pixels]
            )
        if network.part_px is not None:
            arrays["parts"] = part_matrices(pixels, self.skeleton, self.config)
        return arrays

    def batches(self, batch_size: int, first_batch: int) -> Generator[Arrays]:
        """Endless batches from one on, prepared in the background; close it when done."""

        def load(number: int) -> Arrays:
            arrays = self.load(own_part(self.sampler.plan(number, batch_size)).clips)
            if self.num_others:
                plan = self.others.plan(number, batch_size * self.num_others)
                groups = range(0, len(plan.clips), batch_size)  # the regressor sees one at a time
                parts = (Plan(plan.clips[i : i + batch_size], plan.num_frames) for i in groups)
                others = [clip for part in parts for clip in own_part(part).clips]
                found = self.load(others, has_figure=False)
                arrays |= {f"other_{name}": array for name, array in found.items()}
            return arrays

        return prefetched(load, first=first_batch)

    def partners(self, clips: Sequence[Clip]) -> list[Clip]:
        """For each picture another one of the same person: half its video away, else the next."""
        found = []
        for number, clip in enumerate(clips):
            length = int(self.videos.num_frames[clip.row])
            if length > 1:
                found.append(Clip(clip.row, (clip.start + length // 2) % length))
            else:
                found.append(clips[(number + 1) % len(clips)])
        return found


def part_matrices(pixels: np.ndarray, skeleton: Skeleton, config: FamilyConfig) -> np.ndarray:
    """Matrices from pictures to parts, float32 B P 3 3; zeros where a part is not seen.

    pixels: B J 2.
    """
    network = config.network
    assert network.part_px is not None
    none = np.zeros((3, 3))
    found = [
        part_transforms(each, skeleton=skeleton, size_px=network.size_px, part_px=network.part_px)
        for each in pixels
    ]
    return np.array([[none if each is None else each for each in one] for one in found], np.float32)


def open_people(
    data_root: Path, config: FamilyConfig, work: Work, *, max_held_out: int = MAX_HELD_OUT
) -> People:
    """Find prepared pictures with joints. Raises UserError, naming what to do, for none."""
    size_px = config.network.size_px
    videos = open_videos(data_root, config.data, sizes_px=(size_px,))
    name = config.people.joints
    if name not in videos.extra_names:
        there = ", ".join(each for each in videos.extra_names if each.startswith("joints"))
        raise UserError(
            f"the prepared data has no joints '{name}'",
            {
                "looked in": videos.dir,
                "there is": there or "no array of joints",
                "to fix": "choose another people.joints, or other data: h36m, deepfashion, market, "
                "or the generated walker",
            },
            EXIT_USAGE,
        )
    train, held_out = _splits(videos, config, work)
    lengths = videos.num_frames[train]
    seed, counts = config.train.seed, [int(n) for n in lengths]
    weights = None
    if config.people.sampling != "once":
        people = [videos.rows[row].group for row in train]
        labels = people if _has_people(videos, train, config) else ["someone"] * len(train)
        weights = balanced_weights(labels, counts)
    rule = ListedClips(1, [np.arange(count) for count in counts])
    others = ClipSampler(train, lengths, rule, seed=seed + 1, weights=np.ones(len(train)))
    return People(
        videos,
        ClipSampler(train, lengths, rule, seed=seed, weights=weights),
        others,
        0 if config.regressor is None else config.regressor.num_images - 1,
        _spread(videos, held_out, max_held_out),
        config,
    )


def _has_people(videos: PackedVideos, rows: Sequence[int], config: FamilyConfig) -> bool:
    """Whether the data says who is who; single images are each a group of their own."""
    groups = {videos.rows[row].group for row in rows}
    return config.people.sampling == "person" and len(groups) < len(rows)


def _splits(videos: PackedVideos, config: FamilyConfig, work: Work) -> tuple[list[int], list[int]]:
    include, name = config.data.include, config.people.joints

    def having(rows: Sequence[int]) -> list[int]:
        return [row for row in rows if videos.rows[row].extra.get(name, -1) >= 0]

    if config.people.split == "prepared":
        train = having(videos.select("train", include))
        held_out = having(videos.select("val", include)) or having(videos.select("test", include))
    else:
        every = having(videos.select(None, include))
        actions = {row: videos.rows[row].labels.get("action_id") for row in every}
        apart = config.people.split == "actions-apart"
        trained = set(PUBLISHED_TRAIN_ACTIONS) - (set(PUBLISHED_TEST_ACTIONS) if apart else set())
        train = [row for row in every if actions[row] in trained]
        held_out = [row for row in every if actions[row] in PUBLISHED_TEST_ACTIONS]
        if not apart:
            work.warning(
                "people.split=actions is the published one: what is validated on is trained on too"
            )
    if not train:
        raise UserError(
            "no video with joints to train on",
            {
                "looked in": videos.dir,
                "patterns": " ".join(include),
                "to fix": f"see what there is with: i2v data info {config.data.dataset}",
            },
            EXIT_NO_DATA,
        )
    if not held_out:
        work.warning("no held-out videos: nothing is validated while training")
    return train, held_out


def _spread(videos: PackedVideos, rows: Sequence[int], limit: int) -> list[Clip]:
    """Always the same frames, spread evenly over all."""
    if not rows:
        return []
    ends = np.cumsum(videos.num_frames[list(rows)])
    total = int(ends[-1])
    frames = np.unique(np.linspace(0, total - 1, min(limit, total)).round().astype(int))
    numbers = np.searchsorted(ends, frames, side="right")
    starts = frames - np.r_[0, ends][numbers]
    return [Clip(rows[n], int(start)) for n, start in zip(numbers, starts, strict=True)]
