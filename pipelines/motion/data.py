"""Clips of keypoints as vectors: what a motion model is trained and validated on."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor

from pipelines.clips.held_out import fixed_clips
from pipelines.clips.rules import Clip, VideoClips
from pipelines.clips.sampler import ClipSampler
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.fomm.keypoints import Keypoints
from pipelines.motion.config import FamilyConfig
from pipelines.motion.keypoints import KeypointClips
from pipelines.motion.vectors import JacobianRange, to_vectors
from pipelines.nn.whole_batch import process_part

_VALIDATION_CLIPS = 64


@dataclass(frozen=True)
class MotionData:
    """Vectors of all frames of the training videos, and held-out clips (maybe none).

    vectors: N D.  offsets: where each video begins.  held_out: B T D.
    """

    vectors: np.ndarray
    offsets: np.ndarray
    sampler: ClipSampler
    held_out: Tensor
    limits: JacobianRange

    @property
    def vector_size(self) -> int:
        """Numbers per frame."""
        return int(self.vectors.shape[1])

    def batches(self, batch_size: int, first_batch: int) -> Generator[np.ndarray]:
        """Endless training batches, float32 B T D: this process's part of each."""
        part = process_part()
        size = batch_size // part.count
        for number in count(first_batch):
            plan = self.sampler.plan(number, batch_size)
            own = plan.clips[part.rank * size : (part.rank + 1) * size]
            yield cut(self.vectors, self.offsets, own, plan.num_frames)


def motion_data(
    training: KeypointClips, held_out: KeypointClips | None, config: FamilyConfig
) -> MotionData:
    """Scale the jacobians by the training set's range, and choose the held-out clips.

    Raises UserError when no training video has as many frames as a clip.
    """
    limits = JacobianRange(float(training.jacobian.min()), float(training.jacobian.max()))
    span = (config.num_frames - 1) * config.frame_step + 1
    long_enough = [row for row, length in enumerate(training.lengths) if length >= span]
    if not long_enough:
        raise UserError(
            f"no video has keypoints of {span} frames",
            {
                "longest": f"{int(training.lengths.max())} frames",
                "to fix": "give a smaller num_frames or frame_step, or prepare longer videos",
            },
            EXIT_NO_DATA,
        )
    rule = VideoClips(config.num_frames, step=config.frame_step)
    lengths = training.lengths[long_enough]
    sampler = ClipSampler(long_enough, lengths, rule, seed=config.train.seed)
    return MotionData(
        as_vectors(training, limits),
        training.offsets,
        sampler,
        fixed_motions(held_out, config, limits),
        limits,
    )


def fixed_motions(
    clips: KeypointClips | None, config: FamilyConfig, limits: JacobianRange
) -> Tensor:
    """Motions from the middle of videos spread evenly, always the same: B T D."""
    span = (config.num_frames - 1) * config.frame_step + 1
    rows = [] if clips is None else [row for row, n in enumerate(clips.lengths) if n >= span]
    if clips is None or not rows:
        return torch.empty(0, config.num_frames, 0)
    lengths = [int(clips.lengths[row]) for row in rows]
    chosen = fixed_clips(rows, lengths, num_frames=span, limit=_VALIDATION_CLIPS)
    chosen = [clip._replace(step=config.frame_step) for clip in chosen]
    return torch.from_numpy(
        cut(as_vectors(clips, limits), clips.offsets, chosen, config.num_frames)
    )


def as_vectors(clips: KeypointClips, limits: JacobianRange) -> np.ndarray:
    """All frames, N D."""
    keypoints = Keypoints(torch.from_numpy(clips.value), torch.from_numpy(clips.jacobian))
    return to_vectors(keypoints, limits).numpy()


def cut(
    vectors: np.ndarray, offsets: np.ndarray, clips: Sequence[Clip], num_frames: int
) -> np.ndarray:
    """Some clips: B T D."""
    steps = np.arange(num_frames)
    return np.stack([vectors[offsets[c.row] + c.start + c.step * steps] for c in clips])
