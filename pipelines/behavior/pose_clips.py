"""Clips of poses and the scale they are learned in. numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONSTANT_BELOW = 1e-4
"""A dimension whose standard deviation is smaller says nothing and is dropped."""


def clip_frames(
    start: int, num_steps: int, *, lag: int, first_frame: int, last_frame: int
) -> np.ndarray:
    """Numbers of the num_steps + 1 frames of a clip, int64, inside first_frame ... last_frame.

    start: the frame asked for.  lag: frames between two of the clip. A clip that would run over the
    end is moved to end there; one that then begins too early gets a smaller lag. The published code
    begins such a clip one frame before the video where the video has a multiple of num_steps
    frames; here it does not. Raises ValueError where the video has fewer frames than the clip.
    """
    if last_frame - first_frame < num_steps:
        raise ValueError(f"frames {first_frame} to {last_frame} hold no clip of {num_steps} steps")
    if start + lag * num_steps + 1 > last_frame:
        start = last_frame - lag * num_steps
    if start < first_frame:
        lag = (last_frame - first_frame) // num_steps
        start = last_frame - lag * num_steps
    return start + lag * np.arange(num_steps + 1)


@dataclass(frozen=True)
class PoseScale:
    """Mean and standard deviation of each dimension of flattened poses, and which are kept.

    mean, std: float64 D; std is 1 where a dimension is dropped.  kept: int64, numbers of the rest.
    """

    mean: np.ndarray
    std: np.ndarray
    kept: np.ndarray

    @classmethod
    def of(cls, poses: np.ndarray) -> PoseScale:
        """The scale of poses N D. The published one is taken over training and test people."""
        values = np.asarray(poses, np.float64)
        mean, std = values.mean(axis=0), values.std(axis=0)
        is_kept = std >= CONSTANT_BELOW
        return cls(mean, np.where(is_kept, std, 1.0), np.flatnonzero(is_kept))

    def normalize(self, poses: np.ndarray) -> np.ndarray:
        """Poses ... D as ... K, each kept dimension with mean 0 and deviation 1."""
        scaled = (np.asarray(poses, np.float64) - self.mean) / self.std
        return scaled[..., self.kept]

    def restore(self, normalized: np.ndarray) -> np.ndarray:
        """The poses ... D behind ... K; dropped dimensions get their mean."""
        values = np.broadcast_to(self.mean, (*normalized.shape[:-1], len(self.mean))).copy()
        values[..., self.kept] += normalized * self.std[self.kept]
        return values
