"""The model as a CPU samples from it: the same answers up to rounding, in less time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pipelines.nn.packed_convolution import PackedConv
from pipelines.nn.packed_layers import ChosenConv, fast_tanh, pack
from pipelines.nn.spectral_norm import fold_spectral_norm
from pipelines.poke.blocks import ConvBlock, ConvGru, ResidualBlock
from pipelines.poke.networks import Decoder, PokeModel, States


def for_sampling(model: PokeModel) -> PokeModel:
    """The fastest form of a trained model where it is; it can no longer be trained or saved."""
    fold_spectral_norm(model)
    if next(model.parameters()).device.type == "cpu":
        model.cells = nn.ModuleList(
            PackedGru(cell, has_one_drive=number == 0) for number, cell in enumerate(model.cells)
        )
        _join(model.image_encoder)
        pack(model.image_encoder, is_brief=True)
        pack(model.poke_encoder, mixes=False)  # most of a poke map is empty
        model.decoder = pack(PackedDecoder(model.decoder))
        model.to(memory_format=torch.channels_last)
    return model


class PackedGru(nn.Module):
    """Does what a ConvGru does."""

    def __init__(self, cell: ConvGru, *, has_one_drive: bool) -> None:
        """has_one_drive: of a video, so that memory for mixed weights of the input pays little."""
        super().__init__()
        split = 2 * cell.channels
        bias = cell.from_input.bias
        assert bias is not None
        self.upsample = cell.upsample
        if self.upsample is not None:
            pack(self)
        self._from_input = (PackedConv if has_one_drive else ChosenConv)(cell.from_input.weight)
        self._gates = ChosenConv(cell.gates_from_state.weight, bias[:split])
        self._candidate = ChosenConv(cell.candidate_from_state.weight, bias[split:])
        self._split = (split, cell.channels)

    def drive(self, x: Tensor) -> Tensor:
        """See ConvGru."""
        drive: Tensor = self._from_input(x if self.upsample is None else self.upsample(x))
        return drive

    def forward(self, drive: Tensor, state: Tensor) -> Tensor:
        """See ConvGru."""
        for_gates, for_candidate = drive.split(self._split, dim=1)
        gates = self._gates(state).add_(for_gates).sigmoid_()
        reset, update = gates.chunk(2, dim=1)
        candidate = fast_tanh(self._candidate(reset * state).add_(for_candidate))
        return torch.lerp(state, candidate, update)


class PackedDecoder(nn.Module):
    """Does what a Decoder does."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        _join(decoder)
        self._has_skips = decoder.has_skips
        self._in_block, self._blocks = decoder.in_block, decoder.blocks
        self._to_image = PackedConv(decoder.to_image.weight, decoder.to_image.bias)

    def forward(self, states: States) -> Tensor:
        """See Decoder."""
        # the smallest maps together, for the many weights that they meet; the large ones picture
        # by picture, so that they stay near the core
        skips = list(states[1:]) if self._has_skips else []
        levels = [self._in_block(states[0]), *skips]
        parts = zip(*(level.split(1) for level in levels), strict=True)
        return torch.cat([self._drawn(*part) for part in parts])

    def _drawn(self, x: Tensor, *states: Tensor) -> Tensor:
        for number, block in enumerate(self._blocks):
            x = block(torch.cat((x, states[number]), dim=1) if self._has_skips else x)
        return torch.tanh(self._to_image(x))


def _join(network: nn.Module) -> None:
    """Replace the residual blocks within a network that have a shortcut of their own."""
    for name, child in network.named_children():
        if isinstance(child, ResidualBlock) and PackedResidual.suits(child):
            setattr(network, name, PackedResidual(child))
        else:
            _join(child)


class PackedResidual(nn.Module):
    """Does what a ResidualBlock does: what begins both of its ways is one convolution."""

    def __init__(self, block: ResidualBlock) -> None:
        """block: one that this suits."""
        super().__init__()
        first, shortcut = block.conv1, block.shortcut
        assert isinstance(shortcut, ConvBlock)
        self._joint = _both(first.conv, shortcut.conv)
        self._norms = nn.ModuleList([first.norm, shortcut.norm])
        if type(first.norm) is type(shortcut.norm):
            self._norms = nn.ModuleList([shortcut.norm])
        self._activation, self._second = first.activation, block.conv2

    @staticmethod
    def suits(block: ResidualBlock) -> bool:
        """Whether it is one with two plain convolutions of its input."""
        if isinstance(block.shortcut, nn.Identity):
            return False
        kinds = {type(block.conv1.conv), type(block.shortcut.conv)}
        return kinds in ({nn.Conv2d}, {nn.ConvTranspose2d})

    def forward(self, x: Tensor) -> Tensor:
        """See ResidualBlock."""
        parts = self._joint(x).chunk(len(self._norms), dim=1)
        made = [self._activation(norm(part)) for norm, part in zip(self._norms, parts, strict=True)]
        main, shortcut = made if len(made) == 2 else made[0].chunk(2, dim=1)
        total: Tensor = self._second(main).add_(shortcut)
        return total


def _both(first: nn.Module, second: nn.Module) -> nn.Module:
    """Two convolutions of the same input as one, the results of the first one before."""
    assert isinstance(first, nn.Conv2d | nn.ConvTranspose2d)
    assert isinstance(second, nn.Conv2d | nn.ConvTranspose2d)
    assert first.bias is not None and second.bias is not None
    settings: dict[str, Any] = {
        "kernel_size": first.kernel_size,
        "stride": first.stride,
        "padding": first.padding,
        "device": "meta",
    }
    is_plain = isinstance(first, nn.Conv2d)
    if not is_plain:
        settings["output_padding"] = first.output_padding
    both = type(first)(first.in_channels, first.out_channels + second.out_channels, **settings)
    weight = torch.cat([first.weight, second.weight], dim=0 if is_plain else 1).detach()
    both.weight = nn.Parameter(weight, requires_grad=False)
    both.bias = nn.Parameter(torch.cat([first.bias, second.bias]).detach(), requires_grad=False)
    return both.eval()
