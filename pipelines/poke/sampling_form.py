"""The model as a CPU samples from it: the same answers up to rounding, in less time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines.nn.packed_layers import MixedConv, fast_tanh, pack
from pipelines.nn.spectral_norm import fold_spectral_norm
from pipelines.poke.blocks import ConvGru
from pipelines.poke.networks import PokeModel


def for_sampling(model: PokeModel) -> PokeModel:
    """The fastest form of a trained model where it is; it can no longer be trained or saved."""
    fold_spectral_norm(model)
    if next(model.parameters()).device.type == "cpu":
        model.cells = nn.ModuleList(PackedGru(cell) for cell in model.cells)
        pack(model.image_encoder)
        pack(model.poke_encoder, mixes=False)  # most of a poke map is empty
        pack(model.decoder)
        model.to(memory_format=torch.channels_last)
    return model


class PackedGru(nn.Module):
    """Does what a ConvGru does."""

    def __init__(self, cell: ConvGru) -> None:
        super().__init__()
        split = 2 * cell.channels
        bias = cell.from_input.bias
        assert bias is not None
        self.upsample = cell.upsample
        self._from_input = MixedConv(cell.from_input.weight)
        self._gates = MixedConv(cell.gates_from_state.weight, bias[:split])
        self._candidate = MixedConv(cell.candidate_from_state.weight, bias[split:])
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
