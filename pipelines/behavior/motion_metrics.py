"""Diversity and accuracy of sampled pose sequences (spec: 6).

samples: C S T P, S samples for each of C conditions.  future: C T P, what really came. Metres.
"""

from __future__ import annotations

import torch
from torch import Tensor


def average_pairwise_distance(samples: Tensor) -> Tensor:
    """APD: distance of whole sequences to each other, mean over pairs; per condition."""
    flat = samples.flatten(2)
    num = samples.shape[1]
    return torch.cdist(flat, flat).sum((1, 2)) / (num * (num - 1))


def nearest_sample_distance(samples: Tensor) -> Tensor:
    """ASD: distance, mean over frames, to the nearest other sample; per condition."""
    return _nearest(_frame_distances(samples).mean(-1))


def nearest_final_distance(samples: Tensor) -> Tensor:
    """FSD: the same for the last frame alone."""
    return _nearest(_frame_distances(samples[:, :, -1:]).mean(-1))


def best_displacement(samples: Tensor, future: Tensor) -> Tensor:
    """ADE: distance to what came, mean over frames, of the best sample; per condition."""
    return (samples - future[:, None]).norm(dim=-1).mean(-1).amin(dim=1)


def best_final_displacement(samples: Tensor, future: Tensor) -> Tensor:
    """FDE: the same for the last frame alone."""
    return best_displacement(samples[:, :, -1:], future[:, -1:])


def _frame_distances(samples: Tensor) -> Tensor:
    """C S S T."""
    return (samples[:, :, None] - samples[:, None]).norm(dim=-1)


def _nearest(distances: Tensor) -> Tensor:
    """Mean over samples of the smallest distance to another one. distances: C S S."""
    same = torch.eye(distances.shape[1], dtype=torch.bool, device=distances.device)
    return distances.masked_fill(same, torch.inf).amin(dim=2).mean(dim=1)
