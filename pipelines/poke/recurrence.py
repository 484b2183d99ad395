"""The recurrence of a training step: the states that PokeModel.moved yields, of all time steps.

The cells' convolutions are those of every time step, so they are made ready for all of them at once
where that is faster; the numbers are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.nn.repeated_convolution import RepeatedConv, pays_repeated
from pipelines.poke.blocks import ConvGru
from pipelines.poke.networks import PokeModel, States, joined


class RepeatedCell:
    """A cell that takes many steps before its weights change."""

    def __init__(self, cell: ConvGru, *, is_driven_once: bool) -> None:
        """is_driven_once: whether the input is the same at all steps."""
        self._cell = cell
        self._to_gates = RepeatedConv(cell.gates_from_state.weight)
        self._to_candidate = RepeatedConv(cell.candidate_from_state.weight)
        self._from_input = None if is_driven_once else RepeatedConv(cell.from_input.weight)

    def drive(self, x: Tensor) -> Tensor:
        """As the cell's: x: B C H W."""
        if self._from_input is None:
            return self._cell.drive(x)
        upsample = self._cell.upsample
        return self._from_input(x if upsample is None else upsample(x))

    def __call__(self, drive: Tensor, state: Tensor) -> Tensor:
        """As the cell's: drive: B 3C H W, state: B C H W.  Returns the new state."""
        return self._cell.gated(drive, state, self._to_gates, self._to_candidate)

    def finish(self) -> None:
        """There are no more steps."""
        for each in (self._to_gates, self._to_candidate, self._from_input):
            if each is not None:
                each.finish()


def moved_states(
    model: PokeModel, code: Tensor, states: States, strengths: Sequence[float]
) -> States:
    """The states after every step as one pyramid: B*T C h w each, clip after clip.

    code: see PokeModel.encode_poke.  states: to start from.  strengths: see PokeModel.moved.
    """
    gates = [(cell.gates_from_state.weight, x) for cell, x in zip(model.cells, states, strict=True)]
    if len(strengths) < 2 or not any(pays_repeated(*each) for each in gates):
        return joined(list(model.moved(code, states, strengths)))
    cells = [
        RepeatedCell(cell, is_driven_once=i == 0)
        for i, cell in enumerate(model.cells)
        if isinstance(cell, ConvGru)
    ]
    code, *states = (_channels_last(each) for each in (code, *states))
    found = list(model.moved(code, states, strengths, cells=cells))
    for cell in cells:
        cell.finish()
    return [_joined_last(level) for level in zip(*found, strict=True)]


def _joined_last(level: Sequence[Tensor]) -> Tensor:
    """The maps of T steps, B C H W each, as B*T C H W, clip after clip, channels last.

    So is their gradient: else the cells' own way back would read maps across their order.
    """
    maps = torch.stack([each.permute(0, 2, 3, 1) for each in level], dim=1)
    made = maps.flatten(0, 1).permute(0, 3, 1, 2)
    if made.requires_grad:
        made.register_hook(_channels_last)
    return made


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
