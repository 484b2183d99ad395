"""Linear layers whose products run at the processor's full speed.

On a CPU torch multiplies float32 matrices by a library that on some processors uses half the width
of their vector units. oneDNN, which torch convolves with, uses all of it: the same numbers up to
rounding, in half the time. Where torch is built without it, and for small products, for which a
call costs more than it saves, everything is as in torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_WORTH_IT = 3_000_000
"""Multiplications of a product from which on a call of oneDNN is faster, measured."""


class Linear(nn.Linear):
    """nn.Linear by `linear`. Its gradient cannot be differentiated again."""

    def forward(self, x: Tensor) -> Tensor:
        """x: B D.  Returns B D'."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x times the transposed weight, plus the bias. x: B D.  weight: D' D.  bias: D'."""
    if not pays(x, weight):
        return F.linear(x, weight, bias)
    made: Tensor = _Linear.apply(x, weight, bias)
    return made


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is there, and faster for these. x: B D.  weight: D' D."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and len(x) * weight.numel() >= _WORTH_IT
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            _product_back(gradient, weight) if wants_x else None,
            # in order: a transposed part of something wider is very slow to lay out
            _product(gradient.t(), x.t().contiguous()) if wants_weight else None,
            gradient.sum(0) if wants_bias else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def _product_back(gradient: Tensor, weight: Tensor) -> Tensor:
    """gradient times weight, by a call of its own: transposed weights too are slow to lay out."""
    size = [len(gradient), weight.shape[1]]
    blocked = torch.ops.aten.mkldnn_linear_backward_input(size, gradient.to_mkldnn(), weight)
    found: Tensor = blocked.to_dense()
    return found
