"""ELU whose exponential is the fast one, with a gradient.

torch's own keeps the small digits of e^x - 1 by a function that takes from 2 to 20 times as long on
a CPU; beside 1 they are lost in what follows anyway. Elsewhere, and in half precision, torch's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_POWERS_OF_TWO = math.log2(math.e)
"""What makes powers of 2 of those of e; the former take a fifth of the time."""


class Elu(nn.Module):
    """nn.ELU with alpha 1."""

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape."""
        return elu(x)


def elu(x: Tensor) -> Tensor:
    """x where it is positive, elsewhere e^x - 1: off by at most the last digit of 1. Any shape."""
    if not _is_faster_here(x):
        return F.elu(x)
    if not torch.is_grad_enabled():
        return fast_elu(x)
    made: Tensor = _JoinedElu.apply(x)
    return made


def joined_elu(parts: Sequence[Tensor]) -> Tensor:
    """The ELU of maps beside each other: B C H W of each to B sum(C) H W."""
    if not _is_faster_here(parts[0]):
        return F.elu(torch.cat([*parts], dim=1))
    made: Tensor = _JoinedElu.apply(*parts)
    return made


def fast_elu(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The same without a gradient. x: float32 or float64.

    out: where to write it, of x's shape; may be x itself.
    """
    below = x.clamp(max=0).mul_(_POWERS_OF_TWO).exp2_().sub_(1)
    return torch.maximum(x, below, out=below if out is None else out)


def _is_faster_here(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.compiler.is_compiling()
    )


class _JoinedElu(torch.autograd.Function):
    """Keeps the result alone, which the layer behind it keeps as well."""

    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        made = fast_elu(parts[0]) if len(parts) == 1 else _joined(parts)
        ctx.sizes = [part.shape[1] for part in parts] if len(parts) > 1 else None
        ctx.save_for_backward(made)
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        (made,) = ctx.saved_tensors
        # from the result: its slope below 0 is e^x, which is one more than it
        slopes = torch.ops.aten.elu_backward(gradient, 1, 1, 1, True, made)
        return (slopes,) if ctx.sizes is None else slopes.split(ctx.sizes, dim=1)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """In the order of memory that all of them have."""
    sizes = [part.shape[1] for part in parts]
    shape = (len(parts[0]), sum(sizes), *parts[0].shape[2:])
    is_last = all(part.is_contiguous(memory_format=torch.channels_last) for part in parts)
    order = torch.channels_last if is_last else torch.contiguous_format
    joined = torch.empty(shape, dtype=parts[0].dtype, memory_format=order)
    for part, place in zip(parts, joined.split(sizes, dim=1), strict=True):
        fast_elu(part, out=place)
    return joined
