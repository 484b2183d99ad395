"""Normalizing flow over behaviour codes: what a random code is made from (spec: 2.2)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.behavior.config import BehaviorFlowConfig
from pipelines.nn.norms import ActNorm
from pipelines.nn.packed_layers import Product
from pipelines.nn.products import Linear


class BehaviorFlow(nn.Module):
    """Blocks of ActNorm, double coupling and a fixed permutation."""

    def __init__(self, config: BehaviorFlowConfig, *, code_size: int) -> None:
        super().__init__()
        if code_size % 2:
            raise ValueError(f"code_size must be even, not {code_size}")
        self.blocks = nn.ModuleList(FlowBlock(config, code_size) for _ in range(config.num_flows))

    def forward(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """code: B D.  Returns the residual, B D, and the log-determinant, B."""
        log_det = code.new_zeros(len(code))
        for block in self.blocks:
            code, block_log_det = block(code)
            log_det = log_det + block_log_det
        return code, log_det

    def inverse(self, residual: Tensor) -> Tensor:
        """residual: B D, standard normal for a random code.  Returns codes, B D."""
        for block in reversed(self.blocks):
            residual = block.inverse(residual)
        return residual

    def keep_packed(self) -> None:
        """Bring weights into the order that is fastest as they are used for the first time.

        For a flow that learns no more, on its device: it has no weights to store afterwards.
        """
        for block in self.blocks:
            for network in itertools.chain(block.log_scale, block.shift):
                for number, layer in enumerate(network):
                    if isinstance(layer, Linear):
                        network[number] = Product(layer.weight, layer.bias)


class FlowBlock(nn.Module):
    """One block in both directions; as published, the halves change places and stay so."""

    def __init__(self, config: BehaviorFlowConfig, code_size: int) -> None:
        super().__init__()
        self.norm = ActNorm(code_size, initializes_in_eval=True)
        half = code_size // 2

        def networks() -> nn.ModuleList:
            return nn.ModuleList(_mlp(half, config) for _ in range(2))

        self.log_scale, self.shift = networks(), networks()
        self.register_buffer("order", torch.randperm(code_size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: B D.  Returns B D and the log-determinant, B."""
        first, second = self.norm(x).chunk(2, dim=1)
        scale_1 = self.log_scale[0](first).tanh()
        second = second * scale_1.exp() + self.shift[0](first)
        scale_2 = self.log_scale[1](second).tanh()
        first = first * scale_2.exp() + self.shift[1](second)
        log_det = (scale_1 + scale_2).sum(dim=1) + self.norm.log_det()
        return torch.cat([second, first], dim=1)[:, self.order], log_det

    def inverse(self, y: Tensor) -> Tensor:
        """Undo forward. y: B D."""
        ordered = torch.empty_like(y).index_copy(1, self.order, y)
        second, first = (half.contiguous() for half in ordered.chunk(2, dim=1))
        first = (first - self.shift[1](second)) * (-self.log_scale[1](second).tanh()).exp()
        second = (second - self.shift[0](first)) * (-self.log_scale[0](first).tanh()).exp()
        return self.norm.inverse(torch.cat([first, second], dim=1))


def _mlp(size: int, config: BehaviorFlowConfig) -> nn.Sequential:
    widths = (size, *([config.hidden_width] * (config.hidden_depth + 1)), size)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [Linear(a, b), _LeakyReLU()]
    return nn.Sequential(*layers[:-1])


class _LeakyReLU(nn.Module):
    """Slope 0.01 below 0; of what is not learned from in the same place of memory."""

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape; used up where there are no gradients."""
        return F.leaky_relu(x, 0.01, inplace=not torch.is_grad_enabled())
