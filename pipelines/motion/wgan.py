"""Motion from noise and both end frames, against a critic (spec: completion, H.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines.motion.config import WganConfig
from pipelines.nn.full_precision import full_precision


class MotionGenerator(nn.Module):
    """A bidirectional GRU that turns noise into a motion between two frames."""

    def __init__(self, config: WganConfig, *, vector_size: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(vector_size, config.encoded_size)
        self.gru = nn.GRU(
            config.noise_size + 2 * config.encoded_size,
            config.hidden_size,
            batch_first=True,
            bidirectional=True,
        )
        self.output = nn.Linear(2 * config.hidden_size, vector_size)

    def forward(self, noise: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """noise: B T N, standard normal.  first, last: B D.  Returns B T D in (-1, 1)."""
        ends = [
            self.encoder(end).relu()[:, None].expand(-1, noise.shape[1], -1)
            for end in (first, last)
        ]
        hidden, _ = self.gru(torch.cat([noise, *ends], dim=-1))
        return self.output(hidden).tanh()


class MotionCritic(nn.Module):
    """Scores each frame of a motion; only the mean over time and batch is used."""

    def __init__(self, config: WganConfig, *, vector_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(vector_size, config.hidden_size, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * config.hidden_size, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """sequence: B T D; returns scores B T 1."""
        hidden, _ = self.gru(sequence)
        return self.output(hidden)


def critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """What the critic minimises."""
    return fake_scores.mean() - real_scores.mean()


def generator_loss(fake_scores: Tensor) -> Tensor:
    """What the generator minimises."""
    return -fake_scores.mean()


def gradient_penalty(critic: MotionCritic, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Mean squared distance to 1 of the critic's slope between real and generated motions.

    real, fake: B T D.  share: B T 1 in [0, 1], of the real one.
    """
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    with full_precision(real.device):  # second derivatives overflow in 16 bits
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
