"""The KL terms (spec: behavior, 3.3, 3.4). The perceptual loss is features.vgg19's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.shape_pose.networks import Appearance


def kl_divergence(found: Appearance) -> Tensor:
    """Of the codes from the standard normal, nats; mean over the batch and over the two scales."""
    terms = []
    for mean, log_std in zip(found.means, found.log_stds, strict=True):
        each = -log_std + 0.5 * ((2 * log_std).exp() + mean.square()) - 0.5
        terms.append(each.flatten(1).sum(dim=1).mean())
    return torch.stack(terms).mean()


def prior_kl(posterior_means: Sequence[Tensor], prior_means: Sequence[Tensor]) -> Tensor:
    """Between normals of unit variance: mean over the batch, sum over the scales."""
    pairs = zip(posterior_means, prior_means, strict=True)
    return torch.stack([0.5 * (p - q).square().flatten(1).sum(1).mean() for p, q in pairs]).sum()
