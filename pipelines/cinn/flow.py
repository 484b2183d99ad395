"""Stage 2: an invertible network between motion codes and residuals (spec: cinn, 2.6).

It is conditioned on the embedding of the start frame and, if controlled, on an end position.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.norms import ActNorm

_SLOPE = 0.9  # of the invertible leaky ReLU
_CONTROL_PERIOD = 4  # with endpoint control, every fourth block still sees the code itself
_BINS = 10  # of the endpoint code, per axis
ENDPOINT_CODE_SIZE = 3 * _BINS


class ConditionalFlow(nn.Module):
    """Blocks of ActNorm, leaky ReLU, double coupling and a fixed permutation."""

    def __init__(
        self,
        *,
        code_size: int = 64,
        condition_size: int = 128,
        num_flows: int = 20,
        hidden_width: int = 512,
        hidden_depth: int = 2,
        is_controlled: bool = False,
    ) -> None:
        """condition_size: embedding plus endpoint code.

        is_controlled: scale and shift depend on the condition alone, except in every fourth block.
        """
        super().__init__()
        self.blocks = nn.ModuleList(
            FlowBlock(
                code_size,
                condition_size,
                hidden_width=hidden_width,
                hidden_depth=hidden_depth,
                sees_code=not is_controlled or i % _CONTROL_PERIOD == 0,
            )
            for i in range(num_flows)
        )

    def forward(self, code: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """code: B Z.  condition: B E.  Returns the residual, B Z, and the log-determinant, B."""
        x, log_det = code, code.new_zeros(len(code))
        for block in self.blocks:
            x, block_log_det = block(x, condition)
            log_det = log_det + block_log_det
        return x, log_det

    def inverse(self, residual: Tensor, condition: Tensor) -> Tensor:
        """residual: B Z.  condition: B E.  Returns the motion code, B Z."""
        x = residual
        for block in reversed(self.blocks):
            x = block.inverse(x, condition)
        return x


class FlowBlock(nn.Module):
    """One block of the flow, in both directions."""

    def __init__(
        self,
        code_size: int,
        condition_size: int,
        *,
        hidden_width: int,
        hidden_depth: int,
        sees_code: bool,
    ) -> None:
        super().__init__()
        self.norm = ActNorm(code_size, initializes_in_eval=True)
        self.coupling = DoubleCoupling(
            code_size,
            condition_size,
            hidden_width=hidden_width,
            hidden_depth=hidden_depth,
            sees_code=sees_code,
        )
        self.register_buffer("order", torch.randperm(code_size))

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """x: B Z.  Returns B Z and the log-determinant, B."""
        x = self.norm(x)
        # the published flow counts the leaky ReLU's log-determinant as 0
        x = F.leaky_relu(x, _SLOPE)
        x, log_det = self.coupling(x, condition)
        return x[:, self.order], log_det + self.norm.log_det()

    def inverse(self, y: Tensor, condition: Tensor) -> Tensor:
        """Undo forward. y: B Z."""
        x = self.coupling.inverse(y[:, self.order.argsort()], condition)
        return self.norm.inverse(F.leaky_relu(x, 1 / _SLOPE))


class DoubleCoupling(nn.Module):
    """Each half of the code in turn is scaled and shifted; the other half and the condition decide.

    As published, the halves are swapped before the second turn and not swapped back.
    """

    def __init__(
        self,
        code_size: int,
        condition_size: int,
        *,
        hidden_width: int,
        hidden_depth: int,
        sees_code: bool,
    ) -> None:
        """sees_code: False leaves the decision to the condition alone."""
        super().__init__()
        if code_size % 2:
            raise ValueError(f"code_size must be even, not {code_size}")
        half = code_size // 2
        size_in = condition_size + (half if sees_code else 0)
        self._sees_code = sees_code

        def networks() -> nn.ModuleList:
            return nn.ModuleList(_mlp(size_in, hidden_width, hidden_depth, half) for _ in range(2))

        self.log_scale, self.shift = networks(), networks()

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """x: B Z.  Returns B Z and the log-determinant, B."""
        keep, change = x.chunk(2, dim=1)
        log_scale_1, shift_1 = self._scale_and_shift(0, keep, condition)
        change = change * log_scale_1.exp() + shift_1
        log_scale_2, shift_2 = self._scale_and_shift(1, change, condition)
        keep = keep * log_scale_2.exp() + shift_2
        return torch.cat((change, keep), dim=1), (log_scale_1 + log_scale_2).sum(dim=1)

    def inverse(self, y: Tensor, condition: Tensor) -> Tensor:
        """Undo forward. y: B Z."""
        change, keep = y.chunk(2, dim=1)
        log_scale, shift = self._scale_and_shift(1, change, condition)
        keep = (keep - shift) * torch.exp(-log_scale)
        log_scale, shift = self._scale_and_shift(0, keep, condition)
        change = (change - shift) * torch.exp(-log_scale)
        return torch.cat((keep, change), dim=1)

    def _scale_and_shift(self, turn: int, kept: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        seen = torch.cat((kept, condition), dim=1) if self._sees_code else condition
        return self.log_scale[turn](seen), self.shift[turn](seen)


def _mlp(size_in: int, width: int, depth: int, size_out: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(size_in, width), nn.LeakyReLU(0.01)]
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers, nn.Linear(width, size_out))


def endpoint_code(position: Tensor) -> Tensor:
    """An end position as three one-hot codes, one per axis.

    position: B 3, each in [0, 1] of the range that the arm can reach; what lies outside counts as
    the nearest bin.  Returns B 30.
    """
    # the small offset keeps 1.0 in the last bin
    bins = (10 * position - 1e-4).trunc().long().clamp(0, _BINS - 1)
    return F.one_hot(bins, _BINS).flatten(1).to(position.dtype)
