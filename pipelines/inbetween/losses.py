"""Losses of in-betweening (completion, G.5). Videos are B T C H W in [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def inner_frames(video: Tensor) -> Tensor:
    """Without the two that were given."""
    return video[:, 1:-1]


def squared_error(real: Tensor, fake: Tensor) -> Tensor:
    """Mean squared error of the inner frames."""
    return (inner_frames(real) - inner_frames(fake)).square().mean()


def gradient_difference(real: Tensor, fake: Tensor) -> Tensor:
    """How much edges differ: slopes along x and y of all frames, values in [0, 1].

    Beyond the last row and column lie zeros, as published.
    """
    real, fake = (real + 1) / 2, (fake + 1) / 2
    along_x, along_y = (0, 1, 0, 0), (0, 0, 0, 1)
    terms = [
        ((F.pad(real, after)[_shift(after)] - real).abs()
         - (F.pad(fake, after)[_shift(after)] - fake).abs()).abs().mean()
        for after in (along_x, along_y)
    ]  # fmt: skip
    return torch.stack(terms).sum()


def _shift(after: tuple[int, int, int, int]) -> tuple[object, ...]:
    return (..., slice(after[3], None), slice(after[1], None))


def discriminator_parts(real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropies of a discriminator: on real, on generated."""
    return _cross_entropy(real_logits, 1.0), _cross_entropy(fake_logits, 0.0)


def generator_part(fake_logits: Tensor) -> Tensor:
    """Cross entropy that the generator minimises against one discriminator."""
    return _cross_entropy(fake_logits, 1.0)


def hinge_parts(real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Hinge losses of a discriminator: on real, on generated."""
    return (1 - real_logits).relu().mean(), (1 + fake_logits).relu().mean()


def hinge_generator_part(fake_logits: Tensor) -> Tensor:
    """Hinge loss that the generator minimises against one discriminator."""
    return -fake_logits.mean()


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
