"""Clips of poses from prepared data, in the scale they are learned in (spec: behavior, 5.1)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from pipelines.behavior.config import FamilyConfig
from pipelines.behavior.poses import PoseScale
from pipelines.clips.batches import own_part
from pipelines.clips.rules import Clip, Items, PoseClips
from pipelines.clips.sampler import ClipSampler, Partners, Plan
from pipelines.clips.training_data import long_enough, open_videos
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.io.packed import PackedVideos

NO_ACTION = -1
MAX_HELD_OUT = 256

Arrays = dict[str, np.ndarray]
"""poses: float32 B 1+T P, scaled.  action: int64 B, number of the action, NO_ACTION if unknown."""


@dataclass(frozen=True)
class Takes:
    """Pose sequences, one after another. poses: float32 N P, scaled.  actions: one per take."""

    rows: list[int]
    lengths: np.ndarray
    poses: np.ndarray
    actions: np.ndarray

    @property
    def offsets(self) -> np.ndarray:
        """Where each take begins in `poses`."""
        return np.cumsum(self.lengths) - self.lengths

    def clips(self, plan: Plan) -> Arrays:
        """The poses of clips, and their actions."""
        places = {row: number for number, row in enumerate(self.rows)}
        takes = np.array([places[clip.row] for clip in plan.clips])
        starts = self.offsets[takes] + [clip.start for clip in plan.clips]
        steps = np.array([clip.step for clip in plan.clips])
        chosen = starts[:, None] + steps[:, None] * np.arange(plan.num_frames)
        return {"poses": self.poses[chosen], "action": self.actions[takes]}


@dataclass(frozen=True)
class PoseData:
    """Takes to train on and held-out ones.

    fps: poses per second within a clip, None where the data does not say.
    """

    takes: Takes
    held_out: Takes | None
    sampler: ClipSampler
    rule: PoseClips
    scale: PoseScale
    action_names: list[str]
    fps: float | None
    seed: int

    def batches(self, *, batch_size: int, first_batch: int) -> Generator[Arrays]:
        """Endless batches from one on."""
        for number in count(first_batch):
            yield self.takes.clips(own_part(self.sampler.plan(number, batch_size)))

    def held_out_clips(self, limit: int = MAX_HELD_OUT) -> Arrays | None:
        """Held-out clips, always the same: spread evenly over the frames they may start at."""
        if self.held_out is None:
            return None
        return self.held_out.clips(_spread(self.held_out, self.rule, limit))

    def partners(self, limit: int, *, has_same_label: bool) -> Arrays:
        """For each held-out clip another one: of the same action, or of another."""
        takes = self.held_out
        assert takes is not None
        plan = _spread(takes, self.rule, limit)
        labels = takes.actions.tolist()
        drawn = Partners(
            takes.rows, takes.lengths, labels, has_same_label=has_same_label, seed=self.seed
        )
        return takes.clips(drawn.of(plan, 0, self.rule))


def open_poses(
    data_root: Path,
    config: FamilyConfig,
    work: Work,
    *,
    scale: PoseScale | None = None,
    splits: Sequence[str] = ("val", "test"),
) -> PoseData:
    """Find prepared poses. scale: of an earlier stage; None: that of the data.

    splits: where held-out takes are looked for, the first that has some.
    Raises UserError, naming what to do, where there are none, or of another size.
    """
    settings = config.poses
    videos = open_videos(data_root, config.data)
    _require_array(videos, config)
    rows = _kept(videos, _of_split(videos, config, "train", work), config)
    held_out_rows: list[int] = []
    for split in splits:
        found = videos.select(split, config.data.include, settings.num_frames + 1)
        held_out_rows = _kept(videos, found, config)
        if held_out_rows:
            work.log(f"held-out poses: {len(held_out_rows)} takes of split '{split}'")
            break
    else:
        work.warning("no held-out takes are long enough: nothing is validated while training")
    if scale is None:
        used = rows + (held_out_rows if settings.scale_from == "all" else [])
        every = sorted({*used, *_others(videos, config)}) if settings.scale_from == "all" else rows
        scale = PoseScale.of(_read(videos, settings.array, every)[1], keeps_constant=True)
    names = _action_names(videos, rows)
    takes = _takes(videos, rows, config, scale, names)
    rule = _rule(config, takes.lengths, work)
    fps = videos.rows[rows[0]].fps
    return PoseData(
        takes,
        _takes(videos, held_out_rows, config, scale, names) if held_out_rows else None,
        ClipSampler(rows, takes.lengths, rule, seed=config.train.seed),
        rule,
        scale,
        names,
        fps / rule.lag if fps else None,
        config.train.seed,
    )


def data_scale(data_root: Path, config: FamilyConfig) -> PoseScale:
    """The scale of all poses of the prepared data, as the published models were trained with."""
    videos = open_videos(data_root, config.data)
    _require_array(videos, config)
    rows = _others(videos, config)
    return PoseScale.of(_read(videos, config.poses.array, rows)[1], keeps_constant=True)


def _rule(config: FamilyConfig, lengths: np.ndarray, work: Work) -> PoseClips:
    wanted = PoseClips(config.poses.num_frames + 1, config.poses.lag)
    rule = wanted.fitted(int(lengths.min()))
    if rule.lag != wanted.lag:
        work.warning(
            f"the shortest take has {lengths.min()} frames: every "
            f"{_ordinal(rule.lag)} frame is taken, not every {_ordinal(wanted.lag)}"
        )
    return rule


def _ordinal(number: int) -> str:
    return {1: "single", 2: "second", 3: "third"}.get(number, f"{number}th")


def _of_split(videos: PackedVideos, config: FamilyConfig, split: str, work: Work) -> list[int]:
    shortest = config.poses.num_frames + 1
    return long_enough(videos, config.data, split=split, num_frames=shortest, work=work)


def _others(videos: PackedVideos, config: FamilyConfig) -> list[int]:
    """All takes, of every split and length."""
    return _kept(videos, videos.select(None, config.data.include), config)


def _kept(videos: PackedVideos, rows: Sequence[int], config: FamilyConfig) -> list[int]:
    """The rows that have poses; of the views of several cameras one."""
    name = config.poses.array
    having = [row for row in rows if videos.rows[row].extra.get(name, -1) >= 0]
    cameras = {row: videos.rows[row].labels.get("camera") for row in having}
    numbers = [camera for camera in cameras.values() if isinstance(camera, int)]
    if not config.poses.one_camera or len(numbers) < len(having) or not numbers:
        return having
    return [row for row in having if cameras[row] == min(numbers)]


def _takes(
    videos: PackedVideos,
    rows: list[int],
    config: FamilyConfig,
    scale: PoseScale,
    names: Sequence[str],
) -> Takes:
    if not rows:
        raise _no_poses(videos, config)
    lengths, poses = _read(videos, config.poses.array, rows)
    size = config.stage1.net.pose_size
    if poses.shape[1] != size:
        raise UserError(
            f"a pose of this data has {poses.shape[1]} numbers, the model takes {size}",
            {
                "data": videos.dir,
                "array": config.poses.array,
                "to fix": f"set stage1.net.pose_size={poses.shape[1]}, or choose another "
                "poses.array",
            },
            EXIT_USAGE,
        )
    actions = [_number(names, videos.rows[row].labels.get("action")) for row in rows]
    scaled = scale.normalize(poses).astype(np.float32)
    return Takes(rows, lengths, scaled, np.array(actions, np.int64))


def _read(videos: PackedVideos, name: str, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of takes, and their poses one after another: N P."""
    reader = videos.extra(name)
    lengths = videos.num_frames[list(rows)]
    parts = [reader(row, 0, int(n)) for row, n in zip(rows, lengths, strict=True)]
    poses = np.concatenate([part.reshape(len(part), -1) for part in parts])
    bad = ~np.isfinite(poses).all(axis=1)
    if bad.any():
        at = int(np.searchsorted(np.cumsum(lengths), np.flatnonzero(bad)[0], side="right"))
        raise UserError(
            f"the poses of '{videos.ids[rows[at]]}' are not all finite numbers",
            {
                "data": videos.dir,
                "array": name,
                "to fix": "leave the video out with data.include, or prepare it again",
            },
            EXIT_NO_DATA,
        )
    return lengths, poses


def _action_names(videos: PackedVideos, rows: Sequence[int]) -> list[str]:
    """Actions by the number that the data gives them, else by name."""
    found: dict[str, int] = {}
    for row in rows:
        labels = videos.rows[row].labels
        if isinstance(labels.get("action"), str):
            number = labels.get("action_id", 0)
            found[str(labels["action"])] = number if isinstance(number, int) else 0
    return sorted(found, key=lambda name: (found[name], name))


def _number(names: Sequence[str], action: object) -> int:
    return names.index(action) if isinstance(action, str) and action in names else NO_ACTION


def _spread(takes: Takes, rule: PoseClips, limit: int) -> Plan:
    total = int(takes.lengths.sum())
    frames = np.unique(np.linspace(0, total - 1, min(limit, total)).round().astype(np.int64))
    ends = np.cumsum(takes.lengths)
    numbers = np.searchsorted(ends, frames, side="right")
    items = Items(numbers, frames - takes.offsets[numbers])
    placed = rule.place(items, takes.lengths, np.random.default_rng(0))
    places = zip(numbers.tolist(), placed.starts.tolist(), placed.steps.tolist(), strict=True)
    return Plan([Clip(takes.rows[n], start, step) for n, start, step in places], rule.num_frames)


def _require_array(videos: PackedVideos, config: FamilyConfig) -> None:
    there = [name for name in videos.extra_names if name.startswith("joints")]
    if config.poses.array not in there:
        raise UserError(
            f"the prepared data has no poses '{config.poses.array}'",
            {
                "looked in": videos.dir,
                "there is": ", ".join(there) or "no array of joints",
                "to fix": f"set poses.array={there[0]}"
                if there
                else "choose data with poses: h36m, or the generated walker_3d",
            },
            EXIT_USAGE,
        )


def _no_poses(videos: PackedVideos, config: FamilyConfig) -> UserError:
    return UserError(
        "none of the videos that are asked for has poses",
        {
            "looked in": videos.dir,
            "patterns": " ".join(config.data.include),
            "to fix": "choose others with data.include, such as 'walker_3d/*'",
        },
        EXIT_NO_DATA,
    )
