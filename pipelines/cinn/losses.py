"""The losses of the cinn family, formula by formula (spec: cinn, 3). All return scalars."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.nn.whole_batch import num_parts


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Half of mean max(0, 1 - real) + mean max(0, 1 + fake), for logits of any shape."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator(fake: Tensor) -> Tensor:
    """-mean of the discriminator's logits of generated frames."""
    return -fake.mean()


def gradient_penalty(real_logits: Tensor, real: Tensor, *, differentiable: bool = True) -> Tensor:
    """Mean over clips of |d mean(logits) / d clip|^2.

    real_logits: B 1, computed from real, B T 3 H W, which requires a gradient. The mean over the
    batch is inside the gradient, as published: 1/B^2 of the usual R1 penalty.
    differentiable: whether the penalty itself is to be trained on.
    """
    mean = real_logits.mean() / num_parts()  # over the clips of all processes
    (gradient,) = torch.autograd.grad(mean, real, create_graph=differentiable, retain_graph=True)
    return gradient.flatten(1).square().sum(dim=1).mean()


def feature_matching(fake: Sequence[Tensor], real: Sequence[Tensor], *, power: int = 1) -> Tensor:
    """Mean over feature maps of mean |fake - real|^power, power 1 or 2; no gradient to real."""
    distance = F.l1_loss if power == 1 else F.mse_loss
    per_map = [distance(a, b.detach()) for a, b in zip(fake, real, strict=True)]
    return torch.stack(per_map).mean()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL to N(0, I), sum over the code, mean over the batch. mean, log_variance: B Z."""
    per_number = mean.square() + log_variance.exp() - 1 - log_variance
    return 0.5 * per_number.sum(dim=1).mean()


def reconstruction_nll(error: Tensor, log_variance: Tensor | float = 0.0) -> Tensor:
    """Negative log-likelihood of images: sum of error / exp(v) + v, over the batch size.

    error: B 3 H W, absolute difference plus perceptual distance.  log_variance: v, a scalar.
    """
    spread = torch.as_tensor(log_variance, dtype=error.dtype, device=error.device)
    return (error / spread.exp() + spread).sum() / len(error)


def adaptive_weight(nll_gradient: Tensor, gan_gradient: Tensor) -> Tensor:
    """|nll_gradient| / (|gan_gradient| + 1e-4), in [0, 10000]: evens out the two gradients."""
    norm = torch.linalg.vector_norm
    return (norm(nll_gradient) / (norm(gan_gradient) + 1e-4)).clamp(0.0, 1e4).detach()


def gaussian_nll(residual: Tensor) -> Tensor:
    """Mean over the batch of 0.5 |residual|^2; the constant is left out. residual: B Z."""
    return 0.5 * residual.flatten(1).square().sum(dim=1).mean()


def flow_loss(residual: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maximum likelihood of the flow. residual: B Z.  log_det: B.

    Returns loss, its Gaussian part, and its determinant part (-mean log_det).
    """
    nll, negative_log_det = gaussian_nll(residual), -log_det.mean()
    return nll + negative_log_det, nll, negative_log_det
