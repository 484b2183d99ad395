"""Clips of 16 frames: what an inbetween model is trained and validated on."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.clips.batches import load_clips, training_batches
from pipelines.clips.frames import from_bytes, normalise
from pipelines.clips.held_out import fixed_clips
from pipelines.clips.rules import Clip, VideoClips
from pipelines.clips.sampler import ClipSampler
from pipelines.clips.training_data import long_enough, open_videos, sampler_of
from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.inbetween.config import NUM_FRAMES, FamilyConfig
from pipelines.io.packed import PackedVideos

_VALIDATION_CLIPS = 32


@dataclass(frozen=True)
class ClipData:
    """Clips to train on, and held-out ones that are always the same, maybe none."""

    videos: PackedVideos
    sampler: ClipSampler
    validation: list[Clip]

    def batches(self, *, batch_size: int, first_batch: int) -> Generator[np.ndarray]:
        """Endless training batches, uint8 B 16 H W C."""
        return training_batches(
            self.videos, self.sampler, batch_size=batch_size, first_batch=first_batch
        )

    def held_out(self, batch_size: int, limit: int | None = None) -> Iterator[Tensor]:
        """Held-out clips, B 16 C S S in [-1, 1]."""
        clips = self.validation[:limit]
        for first in range(0, len(clips), batch_size):
            yield self.load(clips[first : first + batch_size])

    def load(self, clips: Sequence[Clip]) -> Tensor:
        """Some clips, B 16 C S S in [-1, 1]."""
        return as_clips(torch.from_numpy(load_clips(self.videos, clips, NUM_FRAMES)))


def open_data(data_root: Path, config: FamilyConfig, work: Work) -> ClipData:
    """The clips that a config names.

    Raises UserError, naming what to do, when there is no data, none that fits, or of another size
    or number of channels.
    """
    videos = open_videos(data_root, config.data, sizes_px=(config.size_px,))
    require_channels(videos, config.network.num_channels)
    span = (NUM_FRAMES - 1) * config.frame_step + 1
    rows = long_enough(videos, config.data, split="train", num_frames=span, work=work)
    rule = VideoClips(NUM_FRAMES, step=config.frame_step, repeats=config.clips_per_video)
    sampler = sampler_of(videos, rows, rule, seed=config.train.seed)
    return ClipData(videos, sampler, held_out_clips(videos, config, "val", _VALIDATION_CLIPS, work))


def held_out_clips(
    videos: PackedVideos, config: FamilyConfig, split: str, limit: int, work: Work
) -> list[Clip]:
    """Clips from the middle of a split's videos, always the same; none, with a warning."""
    span = (NUM_FRAMES - 1) * config.frame_step + 1
    rows = videos.select(split, config.data.include, span)
    if not rows:
        work.warning(f"no videos of split '{split}' are long enough: nothing is measured on them")
        return []
    lengths = [int(videos.num_frames[row]) for row in rows]
    found = fixed_clips(rows, lengths, num_frames=span, limit=limit)
    return [clip._replace(step=config.frame_step) for clip in found]


def as_clips(frames: Tensor) -> Tensor:
    """Stored frames, uint8 B T H W C, as B T C H W in [-1, 1]."""
    return normalise(from_bytes(frames))


def require_channels(videos: PackedVideos, num_channels: int) -> None:
    """Raise UserError when the frames are grey and the model is not, or the other way round."""
    if videos.channels != num_channels:
        kinds = {1: "grey", 3: "in colour"}
        raise UserError(
            f"the data is {kinds.get(videos.channels)}, "
            f"the model takes {num_channels} channels ({kinds.get(num_channels)})",
            {
                "data": videos.dir,
                "to fix": f"give network.num_channels={videos.channels}, or prepare the data "
                f"{'without' if videos.channels == 1 else 'with'} --grey",
            },
            EXIT_USAGE,
        )
