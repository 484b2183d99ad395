"""Normalisation layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines.nn.full_precision import widened
from pipelines.nn.whole_batch import channel_statistics, num_parts

_STD_EPS = 1e-6


def num_groups(channels: int, at_most: int = 16) -> int:
    """Groups of a group norm: the largest number up to `at_most` that divides the channels."""
    return next(n for n in range(min(at_most, channels), 0, -1) if channels % n == 0)


def group_norm(channels: int, *, affine: bool = True) -> nn.GroupNorm:
    """Group norm with 16 groups, or fewer where 16 does not divide the channels."""
    return nn.GroupNorm(num_groups(channels), channels, affine=affine)


class ActNorm(nn.Module):
    """scale * (x + loc) per channel, initialised so that its first batch comes out standardised.

    initializes_in_eval: whether a first batch in eval mode sets it too (it does in the flows).
    `initialized` is a stored flag: a loaded, initialised layer never looks at a batch again.
    """

    def __init__(self, channels: int, *, initializes_in_eval: bool = False) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.ones(channels))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))
        self._initializes_in_eval = initializes_in_eval
        self._is_ready = False  # the flag, known without asking the device each time
        self.register_load_state_dict_pre_hook(_forget_flag)

    def forward(self, x: Tensor) -> Tensor:
        """x: B C, or B C with any number of positions after it."""
        if not self._is_ready and (self.training or self._initializes_in_eval):
            self._initialize_once(x)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return self.scale.view(shape) * (x + self.loc.view(shape))

    def log_det(self) -> Tensor:
        """Log-determinant of forward for one position, a scalar."""
        return self.scale.abs().log().sum()

    def inverse(self, y: Tensor) -> Tensor:
        """Undo forward; never initialises. y: B C."""
        return y / self.scale - self.loc

    @torch.no_grad()
    def _initialize_once(self, x: Tensor) -> None:
        if not bool(self.initialized):
            values = widened(x).transpose(0, 1).flatten(1)
            mean, variance, count = values.mean(dim=1), None, values.shape[1]
            if num_parts() > 1:
                mean, spread, count = channel_statistics(values)
                variance = spread / max(count - 1, 1)
            self.loc.copy_(-mean)
            if count > 1:  # one value has no spread: keep the scale at 1
                std = values.std(dim=1) if variance is None else variance.sqrt()
                self.scale.copy_(1.0 / (std + _STD_EPS))
            self.initialized.fill_(1)
        self._is_ready = True


def _forget_flag(module: nn.Module, *_: object) -> None:
    assert isinstance(module, ActNorm)
    module._is_ready = False
