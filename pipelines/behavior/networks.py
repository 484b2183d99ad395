"""The behavior net: what is done is encoded, then done from another posture (spec: 2.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.behavior.config import BehaviorNetConfig
from pipelines.nn.norm_conv import NormLinear
from pipelines.nn.packed_layers import Product
from pipelines.nn.products import linear, pays

State = tuple[Tensor, Tensor]
"""Hidden state and memory of an LSTM's cell, B D each."""


@dataclass(frozen=True)
class Posterior:
    """mean, log_std: B D.  summary: B D, the encoder's last hidden state."""

    mean: Tensor
    log_std: Tensor
    summary: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """A code, B D. noise: B D, standard normal."""
        return self.mean + self.log_std.exp() * noise


class BehaviorEncoder(nn.Module):
    """Reads a pose sequence."""

    def __init__(self, config: BehaviorNetConfig) -> None:
        super().__init__()
        self.rnn = nn.LSTM(config.pose_size, config.code_size, batch_first=True)
        self.mean = NormLinear(config.code_size, config.code_size)
        self.log_std = NormLinear(config.code_size, config.code_size)

    def forward(self, poses: Tensor) -> Posterior:
        """poses: B T P, normalised."""
        _, (hidden, _) = self.rnn(poses)
        return Posterior(self.mean(hidden[0]), self.log_std(hidden[0]), hidden[0])


class PoseDecoder(nn.Module):
    """Moves a posture step by step; the code is the cell's first state."""

    def __init__(self, config: BehaviorNetConfig) -> None:
        super().__init__()
        self.input = (
            nn.Linear(config.pose_size, config.pose_size) if config.has_input_layer else None
        )
        self.rnn = nn.LSTMCell(config.pose_size, config.code_size)
        self.output = nn.Linear(config.code_size, config.pose_size)

    def forward(self, code: Tensor, posture: Tensor, num_frames: int) -> Tensor:
        """code: B D.  posture: B P, normalised.  Returns B T P, without the posture itself."""
        step = self._cell(code)
        pose, state, poses = posture, (code, code), []
        for _ in range(num_frames):
            state = step(pose if self.input is None else self.input(pose), state)
            pose = pose + linear(state[0], self.output.weight, self.output.bias)
            poses.append(pose)
        return torch.stack(poses, dim=1)

    def _cell(self, code: Tensor) -> Callable[[Tensor, State], State]:
        """The cell as it is fastest for such codes: torch's own, or with one product in a step."""
        if not pays(code, self.rnn.weight_hh):
            return self.rnn
        gates = self._gates()

        def step(pose: Tensor, state: State) -> State:
            hidden, memory = state
            enter, keep, new, leave = gates(torch.cat((pose, hidden), dim=1)).chunk(4, dim=1)
            memory = keep.sigmoid() * memory + enter.sigmoid() * _tanh(new)
            return leave.sigmoid() * _tanh(memory), memory

        return step

    def _gates(self) -> Callable[[Tensor], Tensor]:
        """What a step's gates are made with, all at once, from pose and hidden state."""
        weight = torch.cat((self.rnn.weight_ih, self.rnn.weight_hh), dim=1)
        bias = self.rnn.bias_ih + self.rnn.bias_hh
        if torch.is_grad_enabled():
            return lambda x: linear(x, weight, bias)
        return Product(weight, bias)  # brought into order once for all steps


def _tanh(x: Tensor) -> Tensor:
    """By a sigmoid, which on a CPU takes an eighth of the time."""
    return 2 * (2 * x).sigmoid() - 1


class BehaviorNet(nn.Module):
    """Both."""

    def __init__(self, config: BehaviorNetConfig) -> None:
        super().__init__()
        self.encoder = BehaviorEncoder(config)
        self.decoder = PoseDecoder(config)
