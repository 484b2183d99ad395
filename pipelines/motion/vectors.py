"""A frame's keypoints as one vector: K positions (x, y), then K jacobians, row major.

Everything here works on the last axis and keeps the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.fomm.keypoints import Keypoints

NUMBERS_PER_KEYPOINT = 6


@dataclass(frozen=True)
class JacobianRange:
    """Smallest and largest jacobian entry of a training set, which become -1 and 1."""

    low: float
    high: float

    def scaled(self, jacobian: Tensor) -> Tensor:
        """Entries to [-1, 1]."""
        return 2 * (jacobian - self.low) / (self.high - self.low) - 1

    def unscaled(self, scaled: Tensor) -> Tensor:
        """Undo `scaled`."""
        return (scaled + 1) / 2 * (self.high - self.low) + self.low


def to_vectors(keypoints: Keypoints, limits: JacobianRange) -> Tensor:
    """keypoints: ... K 2 and ... K 2 2; returns ... 6K, jacobians scaled."""
    assert keypoints.jacobian is not None
    scaled = limits.scaled(keypoints.jacobian)
    return torch.cat([keypoints.value.flatten(-2), scaled.flatten(-3)], dim=-1)


def to_keypoints(vectors: Tensor, limits: JacobianRange) -> Keypoints:
    """Undo `to_vectors`."""
    num = vectors.shape[-1] // NUMBERS_PER_KEYPOINT
    value, scaled = vectors.split([2 * num, 4 * num], dim=-1)
    jacobian = limits.unscaled(scaled).unflatten(-1, (num, 2, 2))
    return Keypoints(value.unflatten(-1, (num, 2)), jacobian)


def with_ends(sequence: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """A sequence, B T D, whose first and last vectors, B D, are the given ones."""
    return torch.cat([first[:, None], sequence[:, 1:-1], last[:, None]], dim=1)


def interpolated(first: Tensor, last: Tensor, num_frames: int) -> Tensor:
    """Straight lines from one vector to the other, both B D; returns B T D with both ends."""
    share = torch.linspace(0, 1, num_frames, dtype=first.dtype, device=first.device)
    return torch.lerp(first[:, None], last[:, None], share[None, :, None])
