"""Losses, and the path between two codes (spec: behavior, 3.1, 3.2, 3.5, 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.nn.whole_batch import capped_mean


def kl_divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """Of a normal from the standard one, in nats; mean over the batch. Any shape after B."""
    mean, log_std = mean.flatten(1), log_std.flatten(1)
    terms = -log_std + 0.5 * ((2 * log_std).exp() + mean.square()) - 0.5
    return terms.sum(dim=1).mean()


def leakage_bonus(error: Tensor, weight: float, bounds: Sequence[float]) -> Tensor:
    """What the net gains from the posture regressor's error, up to each of the bounds."""
    return weight * torch.stack([capped_mean(error, bound) for bound in bounds]).sum()


def linear(step: int, *, start: int, end: int, first: float, last: float) -> float:
    """A value that goes from first to last between two steps, and stays there."""
    share = min(max((step - start) / (end - start), 0.0), 1.0)
    return first + share * (last - first)


def flow_loss(residual: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, negative log likelihood without constant, negative log-determinant), scalars."""
    nll, negative_log_det = normal_nll(residual), -log_det.mean()
    return nll + negative_log_det, nll, negative_log_det


def normal_nll(residual: Tensor) -> Tensor:
    """Negative log likelihood of a standard normal without its constant, mean over the batch."""
    return 0.5 * residual.square().sum(dim=1).mean()


def interpolate(low: Tensor, high: Tensor, share: float) -> Tensor:
    """Along the arc between two codes, D; straight where they point the same way."""
    angle = torch.acos(torch.dot(low / low.norm(), high / high.norm()).clamp(-1, 1))
    if torch.sin(angle) == 0:
        return torch.lerp(low, high, share)
    shares = torch.sin((1 - share) * angle), torch.sin(share * angle)
    return (shares[0] * low + shares[1] * high) / torch.sin(angle)
