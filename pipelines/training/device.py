"""Where the work runs: choice of the device, CPU threads, repeatable arithmetic."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from pipelines.engines.config import Place
from pipelines.events import EXIT_ENVIRONMENT, UserError
from pipelines.training import processes


def prepare_device(name: str = "auto", *, threads: int | None = None) -> torch.device:
    """Choose a device, make its arithmetic repeatable, and join the other processes, if any.

    name: auto (cuda, else mps, else cpu), cpu, cuda, cuda:N or mps.
    threads: CPU threads of the math library; None leaves torch's own choice, or shares the cores
    out among the processes of this machine.
    Raises UserError when the device asked for is not there.
    """
    place = processes.own_place()
    device = choose_device(_name_at(name, place) if place else name)
    if place and threads is None and device.type == "cpu":
        threads = max(1, (os.cpu_count() or 1) // place.count)
    if threads is not None:
        torch.set_num_threads(threads)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling every new tensor with NaN is a debugging aid that costs time.
        torch.utils.deterministic.fill_uninitialized_memory = False
        keep_freed_memory()
    else:
        torch.backends.cudnn.benchmark = True
    if device.index is not None:
        torch.cuda.set_device(device)
    if place:
        processes.join(place, device)
    return device


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of glibc's mallopt
_TOP_PAD_BYTES = 2**26
_MMAP_MAX_BLOCKS = 2**16  # glibc's own choice
_is_freed_memory_kept = False


def keep_freed_memory() -> None:
    """Let this process use the memory of freed tensors again instead of giving it back.

    glibc gives large blocks back at once, and the system must fill the pages of the next tensor
    with zeros first: a third of the processor time of a training step. Does nothing elsewhere.
    """
    global _is_freed_memory_kept
    mallopt = _of_the_c_library("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)
        mallopt(_TOP_PAD, _TOP_PAD_BYTES)
        _is_freed_memory_kept = True


@contextmanager
def freed_memory_given_back() -> Iterator[None]:
    """Within this block large blocks come from the system alone and go back when they are freed.

    For weights that are laid out anew one by one: none would fit where the one before has been.
    Changes nothing where `keep_freed_memory` has not been called.
    """
    mallopt, trim = _of_the_c_library("mallopt"), _of_the_c_library("malloc_trim")
    if not _is_freed_memory_kept or trim is None:
        yield
        return
    mallopt(_MMAP_MAX, _MMAP_MAX_BLOCKS)
    try:
        yield
    finally:
        mallopt(_MMAP_MAX, 0)
        trim(0)


def states_lie_apart(optimizers: Iterable[torch.optim.Optimizer]) -> AbstractContextManager[None]:
    """What a training step is made in: the first one, in which optimizers make what they then keep.

    Among what each step makes and frees it would leave gaps, a twentieth of a training's memory.
    """
    have_states = any(optimizer.state for optimizer in optimizers)
    return nullcontext() if have_states else freed_memory_given_back()


def _of_the_c_library(name: str) -> Any:
    """A function of glibc; None where there is none of that name."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)  # another C library may have none


def choose_device(name: str) -> torch.device:
    """The device behind a name; UserError when this machine, or this torch, does not have it."""
    if name == "auto":
        return torch.device(_best_device())
    device = torch.device(name)
    if device.type == "cuda":
        _check_cuda(device)
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise _absent(name, "this torch sees no Apple GPU")
    return device


def _name_at(name: str, place: Place) -> str:
    """The device of one process of several: its own, or the graphics card of its number."""
    if place.device:
        return place.device
    chosen = _best_device() if name == "auto" else name
    return f"cuda:{place.local_rank}" if chosen == "cuda" else chosen


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check_cuda(device: torch.device) -> None:
    if not torch.cuda.is_available():
        reason = "this torch is built without CUDA"
        if torch.version.cuda is not None:
            reason = f"torch {torch.__version__} finds no usable NVIDIA driver and GPU"
        raise _absent(str(device), reason)
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise _absent(str(device), f"this machine has {count}, numbered from 0")


def _absent(name: str, reason: str) -> UserError:
    return UserError(
        f"device '{name}' is not available",
        {"reason": reason, "to fix": "choose --device auto or --device cpu"},
        EXIT_ENVIRONMENT,
    )
