"""The building blocks of the poke networks (spec: poke, 2.1).

Every convolution is 3x3 with padding 1 and a bias. Two facts of the published weights look odd and
are kept: upsampling blocks end in a ReLU where all others end in an ELU, and the shortcut of a
residual block is normalised and activated, whatever the norm of its main path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.elu import Elu
from pipelines.nn.instance_norm import InstanceNorm2d
from pipelines.nn.norms import group_norm
from pipelines.nn.spectral_norm import SpectralConv2d, SpectralNorm

Norm = Literal["in", "group", "bn", "none"]
Convolve = Callable[[Tensor], Tensor]


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """in: instance norm without parameters; group: 16 groups; bn: batch norm; none."""
    if kind == "group":
        return group_norm(channels)
    if kind == "bn":
        return nn.BatchNorm2d(channels)
    return InstanceNorm2d(channels) if kind == "in" else nn.Identity()


class SpectralConvTranspose2d(nn.ConvTranspose2d):
    """A transposed 3x3 convolution that doubles the size, with spectral norm."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, stride=2, padding=1, output_padding=1)
        self.norm = SpectralNorm(self.weight.transpose(0, 1))

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """x: B C H W.  Returns B C' 2H 2W."""
        weight = self.norm(self.weight.transpose(0, 1)).transpose(0, 1)
        return F.conv_transpose2d(x, weight, self.bias, 2, 1, 1)


def _convolution(
    channels_in: int, channels_out: int, *, stride: int = 1, upsamples: bool, spectral: bool
) -> nn.Module:
    if upsamples:
        if spectral:
            return SpectralConvTranspose2d(channels_in, channels_out)
        return doubling(channels_in, channels_out)
    if spectral:
        return SpectralConv2d(channels_in, channels_out, 3, stride=stride, padding=1)
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1)


def doubling(channels_in: int, channels_out: int) -> nn.ConvTranspose2d:
    """The transposed convolution that doubles height and width exactly."""
    return nn.ConvTranspose2d(channels_in, channels_out, 3, stride=2, padding=1, output_padding=1)


class ConvBlock(nn.Module):
    """Convolution, norm, activation; with `upsamples` it doubles the size and ends in a ReLU."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        norm: Norm = "in",
        stride: int = 1,
        upsamples: bool = False,
        spectral: bool = False,
        is_activated: bool = True,
    ) -> None:
        super().__init__()
        self.conv = _convolution(
            channels_in, channels_out, stride=stride, upsamples=upsamples, spectral=spectral
        )
        self.norm = norm_layer(norm, channels_out)
        self.activation: nn.Module = nn.Identity()
        if is_activated:
            self.activation = nn.ReLU(inplace=True) if upsamples else Elu()

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W."""
        return self.activation(self.norm(self.conv(x)))


class ResidualBlock(nn.Module):
    """Two convolutions added to a shortcut, and nothing after the sum.

    The shortcut is the input itself where the shapes allow it, else a block of its own, always with
    instance norm and an activation.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        norm: Norm = "in",
        upsamples: bool = False,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = ConvBlock(
            channels_in, channels_out, norm=norm, upsamples=upsamples, spectral=spectral
        )
        self.conv2 = ConvBlock(
            channels_out, channels_out, norm=norm, spectral=spectral, is_activated=False
        )
        self.shortcut: nn.Module = nn.Identity()
        if upsamples or channels_in != channels_out:
            self.shortcut = ConvBlock(
                channels_in, channels_out, norm="in", upsamples=upsamples, spectral=spectral
            )

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W."""
        return self.conv2(self.conv1(x)) + self.shortcut(x)


class ConvGru(nn.Module):
    """One convolutional gated recurrent unit: h' = (1 - u) h + u c.

    The published layout has three convolutions of [input, state]. Here each is split into what it
    does to the input and what it does to the state: the same numbers, nothing is concatenated, and
    an input that stays the same over the steps is convolved once (`drive`).
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        *,
        upsamples: bool = False,
        update_bias: float = 0.0,
    ) -> None:
        """channels: of the state.  upsamples: double the input's size first.

        update_bias: of the update gate at first; below 0 states begin by staying as they are.
        """
        super().__init__()
        self._update_bias = update_bias
        self.channels_in, self.channels = channels_in, channels
        self.upsample = doubling(channels_in, channels_in) if upsamples else None
        # outputs, in this order: reset gate, update gate, candidate
        self.from_input = nn.Conv2d(channels_in, 3 * channels, 3, padding=1)
        self.gates_from_state = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
        self.candidate_from_state = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self._initialize()

    def drive(self, x: Tensor) -> Tensor:
        """What an input, B C H W, adds to the three convolutions; linear in it, without bias."""
        if self.upsample is not None:
            x = self.upsample(x)
        return F.conv2d(x, self.from_input.weight, padding=1)

    def forward(self, drive: Tensor, state: Tensor) -> Tensor:
        """One step. drive: B 3C H W, see `drive`.  state: B C H W.  Returns the new state."""
        return self.gated(drive, state, self.gates_from_state, self.candidate_from_state)

    def gated(
        self, drive: Tensor, state: Tensor, to_gates: Convolve, to_candidate: Convolve
    ) -> Tensor:
        """The same by other ways to do the two convolutions of the state."""
        assert self.from_input.bias is not None
        drive = drive + self.from_input.bias.view(1, -1, 1, 1)
        split = (2 * self.channels, self.channels)
        for_gates, for_candidate = drive.split(split, dim=1)
        gates = torch.sigmoid(for_gates + to_gates(state))
        reset, update = gates.chunk(2, dim=1)
        candidate = torch.tanh(for_candidate + to_candidate(reset * state))
        return torch.lerp(state, candidate.to(state), update.to(state))  # which autocast rounds

    @torch.no_grad()
    def _initialize(self) -> None:
        """Each of the three convolutions as a whole orthogonal, biases zero, as published.

        But for the update gate's, where one was asked for.
        """
        size = (self.channels, self.channels_in + self.channels, 3, 3)
        weights = []
        for _ in range(3):
            weight = torch.empty(size, device=self.from_input.weight.device)
            weights.append(nn.init.orthogonal_(weight) if weight.device.type != "meta" else weight)
        inputs = [weight[:, : self.channels_in] for weight in weights]
        states = [weight[:, self.channels_in :] for weight in weights]
        self.from_input.weight.copy_(torch.cat(inputs))
        self.gates_from_state.weight.copy_(torch.cat(states[:2]))
        self.candidate_from_state.weight.copy_(states[2])
        assert self.from_input.bias is not None
        nn.init.zeros_(self.from_input.bias)
        self.from_input.bias[self.channels : 2 * self.channels] = self._update_bias
