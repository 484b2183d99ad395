"""Clips with the flow that their pokes are read from (spec: poke, 7)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipelines.clips.batches import (
    ClipBatch,
    FlowSource,
    Reading,
    clip_batches,
    load_batch,
)
from pipelines.clips.motion import LengthClass, largest_motion, length_classes
from pipelines.clips.rules import Clip, ClipRule, FrameClips, VideoClips
from pipelines.clips.sampler import ClipSampler, Plan, Sampler, SeveralLengths
from pipelines.clips.training_data import long_enough, open_videos, validation_clips
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.io.flow_pack import FlowPack
from pipelines.io.packed import PackedVideos
from pipelines.poke.config import ClipsConfig, FamilyConfig
from pipelines.poke.pokes import resize_flow_array

Arrays = dict[str, np.ndarray]
"""frames: uint8 B 1+T H W C.  flow: float32 B 2 H W, pixels of the frames, nan where unknown.
is_still: bool B, clips in which nothing moves although the flow says so.
foreground: bool B 3 H W, of first, middle and last frame, where the data has masks.
reach: float32 2, pixels that a poke's length lies between, where clips differ in length."""

_MASK = "mask"
_MOST_LOOKED_AT = 500


@dataclass(frozen=True)
class PokeData:
    """Prepared clips and their flow. classes: of clips of one length, and what moves in them."""

    videos: PackedVideos
    sampler: Sampler
    validation: list[Clip]
    flow_source: FlowSource
    reading: Reading
    num_frames: int
    reaches: dict[int, tuple[float, float]]

    def load(self, clips: Sequence[Clip]) -> Arrays:
        """The arrays of some clips of the full length."""
        plan = Plan(list(clips), self.num_frames)
        batch = load_batch(self.videos, plan, reading=self.reading, flow_source=self.flow_source)
        return self._arrays(batch)

    def batches(self, *, batch_size: int, first_batch: int) -> Generator[Arrays]:
        """Endless batches from one on, prepared in the background; close it when done."""
        batches = clip_batches(
            self.videos,
            self.sampler,
            batch_size=batch_size,
            first_batch=first_batch,
            reading=self.reading,
            flow_source=self.flow_source,
        )
        try:
            for batch in batches:
                yield self._arrays(batch)
        finally:
            batches.close()

    def _arrays(self, batch: ClipBatch) -> Arrays:
        assert batch.frames is not None
        (flow,) = batch.flows.values()
        arrays = {"frames": batch.frames, "flow": flow[:, 0], "is_still": batch.is_still}
        if _MASK in batch.extras:
            last = batch.frames.shape[1] - 1
            arrays["foreground"] = batch.extras[_MASK][:, [0, last // 2, last]] != 0
        if self.reaches:
            reach = self.reaches[batch.frames.shape[1]]
            arrays["reach"] = np.array(reach, np.float32)
        return arrays


def open_poke_data(
    data_root: Path, config: FamilyConfig, work: Work, *, split: Literal["train", "test"] = "train"
) -> PokeData:
    """Find prepared frames and the flow of the lag that is asked for.

    split: what batches are taken from; of `test` every frame once, in random order, as it is.
    Raises UserError, naming what to do, where either is missing.
    """
    clips, lag = config.clips, config.flow_lag
    num_frames = clips.num_frames + 1
    videos = open_videos(data_root, config.data, sizes_px=(config.model.size_px,))
    span = clips.num_frames * clips.frame_step + 1
    rows = long_enough(videos, config.data, split=split, num_frames=span, work=work)
    has_masks = config.poke.foreground == "stored"
    if has_masks and _MASK not in videos.extra_names:
        raise UserError(
            "the prepared data has no foreground masks",
            {"data": videos.dir, "to fix": "choose poke.foreground=flow or none"},
            EXIT_USAGE,
        )
    source = _flow_source(videos, lag, config)
    _require_flow(videos, source, rows, lag, config)
    if split == "train":
        sampler, reaches = _sampler(videos, rows, source, config)
        validation = _validation(videos, config, span, work)
    else:
        rule, seed = _test_rule(config.clips), config.train.seed
        sampler, reaches = ClipSampler(rows, videos.num_frames[rows], rule, seed=seed), {}
        validation = []
    return PokeData(
        videos,
        sampler,
        validation,
        source,
        Reading(extras=(_MASK,) if has_masks else (), flows={lag: 1}),
        num_frames,
        reaches,
    )


class EstimatedFlow:
    """A stored estimate as if it were of the frames' own size.

    Where it was checked (`i2v estimate-flow --check`) and found wrong it is unknown: no poke there.
    """

    def __init__(self, pack: FlowPack, size_px: int) -> None:
        self._pack, self._size_px = pack, size_px

    def flow(self, lag: int, row: int, start: int, count: int = 1) -> np.ndarray:
        """See clips.batches.FlowSource."""
        flow = self._pack.flow(row, start, count)
        flow[~np.broadcast_to(self._pack.reliable(row, start, count)[:, None], flow.shape)] = np.nan
        return resize_flow_array(flow, self._size_px)


def _rule(clips: ClipsConfig) -> ClipRule:
    num_frames, step = clips.num_frames + 1, clips.frame_step
    if clips.start == "every-frame":
        return FrameClips(num_frames, step)
    return VideoClips(num_frames, step, start=clips.start, repeats=clips.clips_per_video)


def _test_rule(clips: ClipsConfig) -> ClipRule:
    if clips.start == "first":
        return _rule(clips)
    return FrameClips(clips.num_frames + 1, clips.frame_step)


def _sampler(
    videos: PackedVideos, rows: list[int], source: FlowSource, config: FamilyConfig
) -> tuple[Sampler, dict[int, tuple[float, float]]]:
    """The sampler, and for each length of its clips the pokes that go with it."""
    lengths = videos.num_frames[rows]
    share, seed = config.poke.background_share, config.train.seed
    if config.experiment == "fixed-length":
        return ClipSampler(rows, lengths, _rule(config.clips), seed=seed, still_share=share), {}
    lag, settings = config.flow_lag, config.sequence
    motions = [
        largest_motion(source, row, lag=lag, num_flows=int(length) - lag)
        for row, length in zip(rows, lengths, strict=True)
    ]
    farthest = max(float(each.max()) for each in motions)
    if farthest <= 0:
        raise _nothing_moves(videos)
    classes = length_classes(
        motions,
        min_frames=settings.min_frames,
        max_frames=config.clips.num_frames,
        cutoff=settings.flow_cutoff,
        step=config.clips.frame_step,
    )
    samplers = [ClipSampler(rows, lengths, c.rule, seed=seed, still_share=share) for c in classes]
    weights = [1.0] * (len(samplers) - 1) + [settings.longest_weight]
    reaches = {each.rule.num_frames: _reach(each, farthest) for each in classes}
    return SeveralLengths(samplers, weights, seed=seed), reaches


def _reach(of: LengthClass, farthest: float) -> tuple[float, float]:
    return of.above * farthest, float("inf") if of.below is None else of.below * farthest


def _validation(videos: PackedVideos, config: FamilyConfig, span: int, work: Work) -> list[Clip]:
    clips = validation_clips(videos, config.data, span, work=work)
    is_first = config.clips.start == "first"
    step = config.clips.frame_step
    return [Clip(clip.row, 0 if is_first else clip.start, step) for clip in clips]


def _flow_source(videos: PackedVideos, lag: int, config: FamilyConfig) -> FlowSource:
    name = config.clips.flow_name
    if name is None and lag in videos.flow_lags:
        return videos
    names = videos.flow_names
    if name is None and len(names) == 1:
        name = names[0]
    if name is None or lag not in videos.estimated_lags(name):
        raise _no_flow(videos, lag, name, config)
    return EstimatedFlow(videos.estimated(name, lag), videos.size_px)


def _require_flow(
    videos: PackedVideos, source: FlowSource, rows: Sequence[int], lag: int, config: FamilyConfig
) -> None:
    """Look at the last flow of all videos, or of many of a long list."""
    for row in rows[:: max(1, len(rows) // _MOST_LOOKED_AT)]:
        try:
            source.flow(lag, row, int(videos.num_frames[row]) - lag - 1, 1)
        except IndexError as error:
            raise UserError(
                f"video '{videos.ids[row]}' has no flow over {lag} frames",
                {
                    "looked in": videos.dir,
                    "reason": error,
                    "run first": _estimate_command(lag, config),
                    "or": "leave such videos out with data.include",
                },
                EXIT_NO_DATA,
            ) from error


def _no_flow(videos: PackedVideos, lag: int, name: str | None, config: FamilyConfig) -> UserError:
    there = {"true motion": videos.flow_lags}
    there |= {each: videos.estimated_lags(each) for each in videos.flow_names}
    lags = "; ".join(
        f"{each}: lag {', '.join(map(str, found))}" for each, found in there.items() if found
    )
    return UserError(
        f"no flow over {lag} frames for dataset '{config.data.dataset}'"
        + (f" from '{name}'" if name else ""),
        {
            "looked in": videos.dir,
            "there is": lags or "none",
            "run first": _estimate_command(lag, config),
            "or": "choose clips.flow_name and clips.flow_lag from what there is",
        },
        EXIT_NO_DATA,
    )


def _estimate_command(lag: int, config: FamilyConfig) -> str:
    return f"i2v estimate-flow {config.data.dataset} --lags {lag}"


def _nothing_moves(videos: PackedVideos) -> UserError:
    return UserError(
        "nothing moves in this data", {"data": videos.dir, "to fix": "choose other videos"}
    )
