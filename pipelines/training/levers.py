"""What makes a step faster or smaller without changing what is learnt: precision, memory, parts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint

from pipelines.events import EXIT_USAGE, UserError
from pipelines.schema import TrainConfig
from pipelines.training.checkpoint import TrainState

Step = Callable[[Any], Mapping[str, Tensor]]


def prepare(
    state: TrainState, settings: TrainConfig, device: torch.device, warn: Callable[[str], None]
) -> None:
    """Set the networks of a training up as its settings say, once.

    warn: told when a training goes on without a setting that this machine cannot follow.
    """
    if state.is_prepared:
        return
    state.is_prepared = True
    _refuse_wrong_gradients(state, settings, device)
    if device.type == "cuda":
        has_tf32 = settings.precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = has_tf32
        torch.backends.cudnn.allow_tf32 = has_tf32
    compiles = settings.compile and can_compile(warn)
    for name, module in state.modules.items():
        if settings.channels_last:
            to_channels_last(module)
        if settings.checkpointing:
            checkpoint_blocks(module)
        if compiles and name not in state.differentiated_twice:
            module.compile()


def can_compile(warn: Callable[[str], None]) -> bool:
    """Whether there is the compiler that torch.compile calls; warns when there is none."""
    wanted = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "c++"]
    if any(shutil.which(name) for name in wanted):
        return True
    warn(
        f"train.compile=true needs a C++ compiler, and there is none ({', '.join(wanted)}): going"
        " on without, with the same numbers; to have it: apt-get install g++"
    )
    return False


def _refuse_wrong_gradients(state: TrainState, settings: TrainConfig, device: torch.device) -> None:
    """On a CPU the gradient of a small 3D convolution in bf16 is of memory that nobody wrote."""
    if settings.precision != "bf16" or device.type != "cpu":
        return
    for name, network in state.modules.items():
        if any(isinstance(module, nn.Conv3d) for module in network.modules()):
            raise UserError(
                "no bf16 on a CPU for a network with 3D convolutions",
                {
                    "network": name,
                    "reason": f"torch {torch.__version__} gets their gradients wrong there",
                    "to fix": "train.precision=fp32",
                },
                EXIT_USAGE,
            )


def precision_of(settings: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """What a step runs in: bf16 is chosen operation by operation, where torch knows it is safe."""
    if settings.precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def step_in_parts(
    step: Step, batch: Any, state: TrainState, settings: TrainConfig, device: torch.device
) -> Mapping[str, Tensor]:
    """One update on a batch, taken in settings.accumulate parts; returns the scalars to log.

    Each optimizer steps once, with the mean of the parts' gradients. What looks at a batch as a
    whole (batch norms, drawn frames) sees one part at a time.
    """
    count = settings.accumulate
    if count == 1:
        with precision_of(settings, device):
            return step(batch)
    scalars, logs = dict(state.scalars), []
    collected: dict[str, list[Tensor | None]] = {}
    for number, part in enumerate(parts_of(batch, count)):
        state.scalars = dict(scalars)  # what a step decides, such as a rate, is decided once
        is_last = number == count - 1
        collecting = _collecting(state.optimizers, collected, count, is_last=is_last)
        with collecting, precision_of(settings, device):
            logs.append(step(part))
    return {name: torch.stack([log[name].float() for log in logs]).mean() for name in logs[-1]}


def parts_of(batch: Any, count: int) -> Iterator[Any]:
    """Equal parts of a batch of clips, one after the other.

    batch: B ..., or such by name; an entry with another number of rows belongs to every part.
    Raises UserError when B cannot be divided.
    """
    rows = len(next(iter(batch.values()))) if isinstance(batch, Mapping) else len(batch)
    if rows % count:
        raise UserError(
            f"a batch of {rows} clips cannot be taken in {count} equal parts",
            {"to fix": f"give a batch_size that is a multiple of {count}, or less accumulate"},
            EXIT_USAGE,
        )
    size = rows // count
    for first in range(0, rows, size):
        chosen = slice(first, first + size)
        if isinstance(batch, Mapping):
            yield {k: each[chosen] if len(each) == rows else each for k, each in batch.items()}
        else:
            yield batch[chosen]


@contextmanager
def _collecting(
    optimizers: Mapping[str, Optimizer],
    collected: dict[str, list[Tensor | None]],
    count: int,
    *,
    is_last: bool,
) -> Iterator[None]:
    """Within this block optimizers put gradients aside instead of stepping; the last time both."""
    with ExitStack() as stack:
        for name, optimizer in optimizers.items():
            sums = collected.setdefault(name, [])
            original = optimizer.step

            def put_aside(
                *_: object,
                optimizer: Optimizer = optimizer,
                sums: list[Tensor | None] = sums,
                original: Callable[[], object] = original,
            ) -> None:
                _add_gradients(_parameters(optimizer), sums)
                if is_last:
                    _use_means(_parameters(optimizer), sums, count)
                    original()

            optimizer.step = put_aside
            stack.callback(optimizer.__dict__.pop, "step")
        yield


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [each for group in optimizer.param_groups for each in group["params"]]


def _add_gradients(parameters: Sequence[Tensor], sums: list[Tensor | None]) -> None:
    if not sums:
        sums += [None] * len(parameters)
    for place, parameter in enumerate(parameters):
        gradient, before = parameter.grad, sums[place]
        if gradient is not None:
            sums[place] = gradient.clone() if before is None else before.add_(gradient)


def _use_means(parameters: Sequence[Tensor], sums: Sequence[Tensor | None], count: int) -> None:
    for parameter, total in zip(parameters, sums, strict=True):
        parameter.grad = None if total is None else total / count


def to_channels_last(module: nn.Module) -> None:
    """Keep the weights of convolutions with the channels last, in place; the numbers stay."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in module.parameters():
        if parameter.dim() in formats:
            kept = formats[parameter.dim()]
            parameter.data = parameter.data.contiguous(memory_format=kept)


def checkpoint_blocks(module: nn.Module) -> int:
    """Let a network's blocks forget what they computed until the backward pass; returns how many.

    Blocks are the members of its lists and sequences that have weights and nothing that a forward
    changes: a spectral norm or a batch norm would move twice.
    """
    num_changed = 0
    for holder in list(module.modules()):
        if not isinstance(holder, nn.ModuleList | nn.Sequential):
            continue
        for block in holder:
            has_weights = any(True for _ in block.parameters())
            if has_weights and not any(True for _ in block.buffers()) and not _is_inside(block):
                plain = block.forward
                block.forward = partial(_recomputed, plain)
                for inner in block.modules():
                    inner.__dict__["is_in_checkpointed_block"] = True
                num_changed += 1
    return num_changed


def _is_inside(block: nn.Module) -> bool:
    return bool(block.__dict__.get("is_in_checkpointed_block"))


def _recomputed(forward: Callable[..., Any], *arguments: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments)
    return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False)
