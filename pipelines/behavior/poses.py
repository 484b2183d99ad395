"""Skeletons and the scale that poses are learned in. numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

CONSTANT_BELOW = 1e-4
"""A dimension whose standard deviation is smaller says nothing."""

Line = tuple[int, int]


@dataclass(frozen=True)
class Figure:
    """How joints are joined for a drawing. limbs: pairs of a right and a left bone, as lengths."""

    num_joints: int
    right: tuple[Line, ...]
    left: tuple[Line, ...]
    middle: tuple[Line, ...]
    limbs: tuple[tuple[Line, Line], ...]


FIGURES: Mapping[int, Figure] = {
    17: Figure(
        17,
        right=((0, 1), (1, 2), (6, 0), (8, 14), (14, 15), (15, 16)),
        left=((3, 4), (4, 5), (6, 3), (8, 11), (11, 12), (12, 13)),
        middle=((6, 7), (7, 8), (8, 9), (9, 10)),
        limbs=(((0, 1), (3, 4)), ((1, 2), (4, 5)), ((14, 15), (11, 12)), ((15, 16), (12, 13))),
    ),
    11: Figure(
        11,
        right=((0, 4), (4, 6), (1, 8), (8, 10)),
        left=((0, 3), (3, 5), (1, 7), (7, 9)),
        middle=((0, 1), (1, 2)),
        limbs=(((4, 6), (3, 5)), ((8, 10), (7, 9))),
    ),
}
"""By number of joints: those of Human3.6M, and those that all generated people have in common."""


@dataclass(frozen=True)
class PoseScale:
    """Mean and standard deviation of each dimension of flattened poses, and which are kept.

    mean, std: float64 D; std is 1 where a dimension is constant.  kept: int64, numbers of the rest.
    """

    mean: np.ndarray
    std: np.ndarray
    kept: np.ndarray

    @classmethod
    def of(cls, poses: np.ndarray, *, keeps_constant: bool = False) -> PoseScale:
        """The scale of poses N D. The published one is taken over training and test people.

        keeps_constant: keep a dimension that never changes, as zeros, and so the pose's size.
        """
        values = np.asarray(poses, np.float64)
        mean, std = values.mean(axis=0), values.std(axis=0)
        varies = std >= CONSTANT_BELOW
        kept = np.arange(len(mean)) if keeps_constant else np.flatnonzero(varies)
        return cls(mean, np.where(varies, std, 1.0), kept)

    @classmethod
    def stored(cls, mean: np.ndarray, std: np.ndarray) -> PoseScale:
        """The scale of a trained model, which keeps every dimension."""
        return cls(np.asarray(mean), np.asarray(std), np.arange(len(mean)))

    def normalize(self, poses: np.ndarray) -> np.ndarray:
        """Poses ... D as ... K, each kept dimension with mean 0 and deviation 1."""
        scaled = (np.asarray(poses, np.float64) - self.mean) / self.std
        return scaled[..., self.kept]

    def restore(self, normalized: np.ndarray) -> np.ndarray:
        """The poses ... D behind ... K; dropped dimensions get their mean."""
        values = np.broadcast_to(self.mean, (*normalized.shape[:-1], len(self.mean))).copy()
        values[..., self.kept] += normalized * self.std[self.kept]
        return values
