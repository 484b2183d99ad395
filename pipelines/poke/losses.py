"""The losses of the poke family, formula by formula (spec: poke, 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def latent_dynamics(moved: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean over the levels of two pyramids of their mean squared difference."""
    return torch.stack([F.mse_loss(a, b) for a, b in zip(moved, wanted, strict=True)]).mean()


def pixel_dynamics(real: Tensor, next_real: Tensor, fake: Tensor, next_fake: Tensor) -> Tensor:
    """Squared difference of how much true and made frames change in one step.

    All B 3 S S; `fake` takes no gradient.
    """
    wanted = (real - next_real).abs().mean()
    return (wanted - (next_fake - fake.detach()).abs().mean()).square()


def kl_divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL of the code of a variational poke encoder to N(0, I): sum per sample, batch mean."""
    mean, log_std = mean.flatten(1), log_std.flatten(1)
    per_number = 0.5 * (log_std.exp().square() + mean.square() - 1) - log_std
    return per_number.sum(1).mean()


def hinge_real(logits: Tensor) -> Tensor:
    """mean max(0, 1 - logits) of true images or clips."""
    return F.relu(1 - logits).mean()


def hinge_fake(logits: Tensor) -> Tensor:
    """mean max(0, 1 + logits) of made ones."""
    return F.relu(1 + logits).mean()


def hinge_generator(logits: Tensor) -> Tensor:
    """-mean of the logits of made ones."""
    return -logits.mean()


def gradient_penalty(real_logits: Tensor, real: Tensor) -> Tensor:
    """|d sum(logits) / d sample|^2 for each sample, N. To be trained on.

    real_logits: computed from `real`, which requires a gradient.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True, retain_graph=True)
    return gradient.flatten(1).square().sum(1)


def feature_matching(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean over feature maps of mean |fake - real|; neither side is detached."""
    return torch.stack([F.l1_loss(a, b) for a, b in zip(fake, real, strict=True)]).mean()


def style(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Squared difference of Gram matrices, summed over maps, batch mean. Maps: N C H W."""
    terms = [
        (gram(a) - gram(b)).square().sum((1, 2)).mean() for a, b in zip(fake, real, strict=True)
    ]
    return torch.stack(terms).sum()


def gram(maps: Tensor) -> Tensor:
    """Products of channels, N C C, over the size of a map."""
    flat = maps.flatten(2)
    return flat @ flat.transpose(1, 2) / maps[0].numel()
