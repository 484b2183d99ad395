"""A training on several processes: joining them, averaging gradients, deciding things together.

Plain modules and torch's own optimizers. Each process holds an equal part of every batch; before an
optimizer steps, its gradients are averaged over all processes in one flat tensor. No wrapper around
the networks: gradient penalties and adaptive weights differentiate in ways that it does not allow.
What in a step looks at the whole batch is in pipelines.nn.whole_batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from pipelines.engines.config import Place, place_in
from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.nn.whole_batch import (
    Part,
    mean_over_parts,
    process_part,
    set_process,
    shared_batch_norms,
    sharing,
)

_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: the first one may be validating or writing."""


def own_place() -> Place | None:
    """This process among those of its training; None when it is the only one."""
    return place_in(os.environ)


def join(place: Place, device: torch.device) -> None:
    """Meet the other processes of this training, once; returns when all are there."""
    if dist.is_initialized():
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend,
        init_method=f"tcp://{place.address}:{place.port}",
        rank=place.rank,
        world_size=place.count,
        timeout=_PATIENCE,
    )
    set_process(Part(place.rank, place.count))


def leave() -> None:
    """Part from the other processes, if there are any."""
    if dist.is_initialized():
        set_process(Part())
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this is the process that writes the run's files; the only one always is."""
    return process_part().rank == 0


def num_processes() -> int:
    """Processes of this training."""
    return process_part().count


def own_shard(batch_size: int) -> tuple[int, int]:
    """This process's part of a batch, as number and of how many.

    Raises UserError when a batch cannot be divided equally.
    """
    part = process_part()
    if batch_size % part.count:
        raise UserError(
            f"a batch of {batch_size} clips cannot be divided equally among {part.count} processes",
            {"to fix": f"give a batch_size that is a multiple of {part.count}"},
            EXIT_USAGE,
        )
    return part.rank, part.count


@contextmanager
def together(
    modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
) -> Iterator[None]:
    """Within this block steps are those of one process with the whole batch."""
    if num_processes() == 1:
        yield
        return
    with ExitStack() as stack:
        every = chain.from_iterable(module.modules() for module in modules.values())
        stack.enter_context(shared_batch_norms(every))
        for optimizer in optimizers.values():
            # called where the optimizer steps, so that no family's step can forget it
            stack.callback(optimizer.register_step_pre_hook(_average_before_step).remove)
        stack.enter_context(sharing())
        yield


def average_gradients(optimizer: Optimizer) -> None:
    """Replace each gradient of an optimizer's parameters by its mean over all processes."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    for dtype in dict.fromkeys(each.dtype for each in parameters):
        gradients = [
            each.grad for each in parameters if each.grad is not None and each.dtype == dtype
        ]
        if gradients:
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            _put_back(mean_over_parts(flat), gradients)


def agree_to_stop(is_stopping: bool, step: int) -> bool:
    """Whether any process was asked to stop; all are at the same step."""
    if num_processes() == 1:
        return is_stopping
    said = torch.tensor([int(is_stopping), step, -step])
    dist.all_reduce(said, op=dist.ReduceOp.MAX)
    stops, last, first = said.tolist()
    if last != -first:
        raise RuntimeError(f"the processes of this training are at steps {-first} to {last}")
    return bool(stops)


def resumed_with(stored: int, work: Work) -> None:
    """Say when a training goes on with another number of processes than it was saved with."""
    if stored != num_processes():
        work.log(
            f"going on with {num_processes()} processes instead of {stored}: the same batches and"
            " draws, shared out anew"
        )


def _average_before_step(optimizer: Optimizer, *_: Any) -> None:
    average_gradients(optimizer)


def _put_back(flat: Tensor, gradients: Sequence[Tensor]) -> None:
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, mean in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(mean.view(gradient.shape))
