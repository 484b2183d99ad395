"""Arithmetic over a batch of which this process holds an equal part.

A training on N processes is to give the weights of one process with the whole batch. Each process
computes the loss of its own clips and the gradients are averaged; what looks at more than one clip
needs the functions of this module: batch statistics, draws, picked frames, nonlinear functions of
a mean. They share only within `sharing` (the training loop opens it around a step); anywhere else,
and in a training of one process, they are plain arithmetic on the rows at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipelines.nn.full_precision import full_precision, widened


@dataclass(frozen=True)
class Part:
    """Which equal part of every batch this process holds: number `rank` of `count`."""

    rank: int = 0
    count: int = 1


WHOLE = Part()
_process = WHOLE  # what this process is, all the time
_shared = WHOLE  # the same while a step runs, else WHOLE


def set_process(part: Part) -> None:
    """Say which part of every batch this process holds; it has joined the others already."""
    global _process
    _process = part


def process_part() -> Part:
    """The part of every batch that this process holds, also outside a step."""
    return _process


@contextmanager
def sharing() -> Iterator[None]:
    """Within this block batches are parts of a whole, and all processes call alike."""
    global _shared
    before, _shared = _shared, _process
    try:
        yield
    finally:
        _shared = before


def num_parts() -> int:
    """Processes that share the batch at hand; 1 outside `sharing`."""
    return _shared.count


def own_rows(drawn: Tensor) -> Tensor:
    """This process's rows of something drawn for the whole batch.

    Every process draws all of it, N * num_parts() rows for its N clips, so that their generators
    stay alike, and a training can go on with another number of processes.
    """
    return drawn.chunk(_shared.count)[_shared.rank] if _shared.count > 1 else drawn


def normal_rows(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal numbers, B ..., of which every row belongs to a clip; see own_rows."""
    rows = (shape[0] * _shared.count, *shape[1:])
    return own_rows(torch.randn(rows, generator=generator, device=generator.device))


def uniform_rows(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """The same of numbers in [0, 1)."""
    rows = (shape[0] * _shared.count, *shape[1:])
    return own_rows(torch.rand(rows, generator=generator, device=generator.device))


def mean_over_parts(value: Tensor) -> Tensor:
    """The mean over all processes, the same in each; takes no gradient."""
    if _shared.count == 1:
        return value
    total = value.detach().clone().contiguous()
    dist.all_reduce(total)
    return total / _shared.count


def capped_mean(value: Tensor, bound: float) -> Tensor:
    """A mean over this process's clips, bounded by what it is over the whole batch.

    Beyond the bound no process's clips have a gradient, as if one process had them all.
    """
    if _shared.count == 1:
        return value.clamp(max=bound)
    return torch.where(mean_over_parts(value) <= bound, value, value.new_tensor(bound))


def sum_over_parts(value: Tensor) -> Tensor:
    """The sum over all processes. Gradients go back to every process's own value."""
    if _shared.count == 1:
        return value
    summed: Tensor = _Sum.apply(value)
    return summed


def picked_rows(rows: Tensor, indices: Tensor) -> Tensor:
    """Some rows of the whole batch, shared out among the processes; with one process rows[indices].

    rows: N ..., this process's; the whole batch is those of all processes in order.
    indices: M, of rows of the whole batch; each process gets a near-equal part of them, and the
    mean over the processes' means is the mean over all where the number of processes divides M.
    """
    if _shared.count == 1:
        return rows[indices]
    place = indices - _shared.rank * len(rows)
    is_own = (place >= 0) & (place < len(rows))
    own = rows[place.clamp(0, len(rows) - 1)]
    shape = (-1,) + (1,) * (rows.dim() - 1)
    everyones = sum_over_parts(torch.where(is_own.view(shape), own, torch.zeros_like(own)))
    return everyones.tensor_split(_shared.count)[_shared.rank]


def channel_statistics(values: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and sum of squared distances from it of each channel, and how many values it has.

    values: C N, this process's.  Returns C, C and the number over all processes.
    """
    count = values.shape[1] * _shared.count
    mean = sum_over_parts(values.sum(dim=1)) / count
    spread = sum_over_parts((values - mean.unsqueeze(1)).square().sum(dim=1))
    return mean, spread, count


@contextmanager
def shared_batch_norms(modules: Iterator[nn.Module]) -> Iterator[None]:
    """Within this block the batch norms among the modules use the statistics of the whole batch.

    torch's own layer for that works on graphics cards alone and takes no second derivative.
    """
    changed = [each for each in modules if isinstance(each, nn.modules.batchnorm._BatchNorm)] * (
        _process.count > 1
    )
    for norm in changed:
        norm.forward = MethodType(_batch_norm, norm)
    try:
        yield
    finally:
        for norm in changed:
            norm.__dict__.pop("forward", None)


def _batch_norm(norm: Any, x: Tensor) -> Tensor:
    """The forward of a batch norm. x: B C ..."""
    if not norm.training or _shared.count == 1:
        return type(norm).forward(norm, x)
    with full_precision(x.device):
        values = widened(x)
        mean, spread, count = channel_statistics(values.transpose(0, 1).flatten(1))
        shape = (1, -1) + (1,) * (x.dim() - 2)
        scaled = (values - mean.view(shape)) * (spread / count + norm.eps).rsqrt().view(shape)
        if norm.affine:
            scaled = scaled * norm.weight.view(shape) + norm.bias.view(shape)
    if norm.track_running_stats:
        _follow(norm, mean.detach(), spread.detach() / max(count - 1, 1))
    return scaled.to(x.dtype)


def _follow(norm: Any, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics as the layer itself does."""
    norm.num_batches_tracked.add_(1)
    share = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean), share)
    norm.running_var.lerp_(variance.to(norm.running_var), share)


class _Sum(torch.autograd.Function):
    """All-reduce whose gradient is one too, so that it can be differentiated again and again."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.detach().clone().contiguous()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(gradient)
        return summed
