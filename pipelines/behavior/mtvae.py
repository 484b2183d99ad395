"""MT-VAE, the baseline: the difference between two moments, added to another (spec: 2.7, 3.5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_HIDDEN = 512


class ResidualMlp(nn.Module):
    """Three layers beside a shortcut, then layer norm without weights."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            (nn.Linear(size_in, _HIDDEN), nn.Linear(_HIDDEN, _HIDDEN), nn.Linear(_HIDDEN, size_out))
        )
        self.shortcut = nn.Linear(size_in, size_out)

    def forward(self, x: Tensor) -> Tensor:
        """x: B D."""
        hidden = x
        for layer in self.layers:
            hidden = F.relu(layer(hidden))
        return _standardised(self.shortcut(x) + hidden)


@dataclass(frozen=True)
class Transformed:
    """poses: B T P.  mean, log_std: B Z.  cycle: B Z, the code found again in what was made."""

    poses: Tensor
    mean: Tensor
    log_std: Tensor
    cycle: Tensor


class MotionTransformationVae(nn.Module):
    """Encodes a condition and a future; decodes the change from one to the other."""

    def __init__(self, *, pose_size: int = 51, width: int = 1024, code_size: int = 512) -> None:
        super().__init__()
        self.encoder = nn.LSTM(pose_size, width, batch_first=True)
        self.decoder = nn.LSTM(width, width, batch_first=True)
        self.latent_encoder = ResidualMlp(width, 2 * code_size)
        self.latent_decoder = ResidualMlp(width + code_size, width)
        self.code = nn.Linear(code_size, code_size)
        self.first_hidden = nn.Linear(2 * width, width)
        self.first_cell = nn.Linear(2 * width, width)
        self.output = nn.Linear(width, pose_size)

    def forward(
        self,
        source: Tensor,
        target: Tensor | None,
        state: tuple[Tensor, Tensor],
        *,
        num_condition: int,
        noise: Tensor,
        cycle_noise: Tensor,
        from_prior: bool = False,
    ) -> Transformed:
        """source: B T P, the first num_condition frames of it the condition, the rest the future.

        target: B T P, the sequence to transfer the change to; None: the source's own condition.
        state: first hidden and cell state of the encoder, 1 B D each, standard normal.
        noise, cycle_noise: B Z, standard normal.  from_prior: the code is the noise itself.
        """
        condition, future = source[:, :num_condition], source[:, num_condition:]
        start, hidden = self.encode(condition, state)
        end, _ = self.encode(future, state)
        mean, log_std = self.change(start, end)
        code = noise if from_prior else mean + log_std.exp() * noise
        base = start
        if target is not None:
            base, hidden = self.encode(target, state)
        changed = self.changed(base, code)
        cycle_mean, cycle_log_std = self.change(start, changed)
        cycle = cycle_mean + cycle_log_std.exp() * cycle_noise
        poses = self.decode(changed, hidden, future.shape[1])
        return Transformed(poses, mean, log_std, cycle)

    def encode(self, poses: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The moment that poses B T P end in, and the encoder's last hidden state, B W both."""
        outputs, (hidden, _) = self.encoder(poses, state)
        return outputs[:, -1], hidden[0]

    def change(self, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log_std, B Z, of the code of the way between two moments, B W."""
        mean, log_std = self.latent_encoder(end - start).chunk(2, dim=1)
        return mean, log_std

    def changed(self, base: Tensor, code: Tensor) -> Tensor:
        """The moment, B W, that a change leads to. base: B W.  code: B Z."""
        return _standardised(self.latent_decoder(torch.cat([self.code(code), base], 1)) + base)

    def decode(self, changed: Tensor, hidden: Tensor, num_frames: int) -> Tensor:
        """Poses B T P that end in a moment. changed, hidden: B W."""
        before = torch.cat([hidden, changed], dim=1)
        state = self.first_hidden(before).tanh()[None], self.first_cell(before)[None]
        outputs, _ = self.decoder(changed[:, None].expand(-1, num_frames, -1), state)
        return self.output(outputs)


def losses(
    made: Transformed,
    source: Tensor,
    cycle_target: Tensor,
    *,
    num_condition: int,
    num_velocities: int = 8,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean absolute errors of poses, KL, velocities, code found again; without weights.

    cycle_target: B Z, fresh standard normal numbers, as published.
    """
    future = source[:, num_condition:]
    poses = (made.poses - future).abs().mean()
    # as published: a variance here, a standard deviation where codes are drawn
    kl = 0.5 * (-1 - made.log_std + made.log_std.exp() + made.mean.square()).mean()
    last = source[:, num_condition - 1 : num_condition]
    velocities = [
        torch.cat([last, sequence[:, :num_velocities]], dim=1).diff(dim=1)
        for sequence in (made.poses, future)
    ]
    motion = (velocities[0] - velocities[1]).abs().mean()
    return poses, kl, motion, (made.cycle - cycle_target).abs().mean()


def _standardised(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[1:])
