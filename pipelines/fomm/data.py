"""Pairs of frames to train on, and held-out clips to reconstruct (spec: completion, E)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.clips.batches import load_clips, training_batches
from pipelines.clips.rules import Clip, FramePairs
from pipelines.clips.sampler import ClipSampler
from pipelines.clips.training_data import long_enough, open_videos, validation_clips
from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.fomm.config import FamilyConfig
from pipelines.io.packed import PackedVideos


@dataclass(frozen=True)
class PairData:
    """Pairs of frames of one video each; clips of `num_frames` to validate on, maybe none."""

    videos: PackedVideos
    sampler: ClipSampler
    validation: list[Clip]
    num_frames: int

    def batches(self, *, batch_size: int, first_batch: int) -> Generator[np.ndarray]:
        """Endless batches from one on, uint8 B 2 H W C; close it when done."""
        return training_batches(
            self.videos, self.sampler, batch_size=batch_size, first_batch=first_batch
        )

    def clips(self, clips: Sequence[Clip]) -> np.ndarray:
        """Held-out clips: uint8 B T H W C."""
        return load_clips(self.videos, clips, self.num_frames)


def open_pair_data(data_root: Path, config: FamilyConfig, work: Work) -> PairData:
    """Find the prepared frames that the settings name.

    Raises UserError, naming what to do, when there are none, or of another size, or grey ones for a
    colour model.
    """
    videos = open_videos(data_root, config.data, sizes_px=(config.model.size_px,))
    require_channels(videos, config.model.num_channels, work)
    rows = long_enough(videos, config.data, split="train", num_frames=2, work=work)
    identities = [identity(videos.ids[row]) for row in rows] if config.draws_identities else None
    lengths = videos.num_frames[rows]
    rule = FramePairs(config.pairs_per_video)
    sampler = ClipSampler(rows, lengths, rule, seed=config.train.seed, identities=identities)
    num_frames = config.validation_frames
    held_out = validation_clips(videos, config.data, num_frames, work=work)
    return PairData(videos, sampler, held_out, num_frames)


def require_channels(videos: PackedVideos, num_channels: int, work: Work) -> None:
    """Colour data for a grey model is made grey; UserError the other way round."""
    if videos.channels == num_channels:
        return
    if videos.channels == 1:
        raise UserError(
            "the data is grey, the model takes colour",
            {
                "data": videos.dir,
                "to fix": "choose model.num_channels=1, as the preset kth-128 does",
                "or": "prepare the data in colour",
            },
            EXIT_USAGE,
        )
    work.log("the data has colour, the model does not: its luma is taken")


def identity(video_id: str) -> str:
    """Whom a video shows: its name up to the first '#'."""
    return video_id.rsplit("/", 1)[-1].split("#", 1)[0]
