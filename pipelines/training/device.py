"""Where the work runs: choice of the device, CPU threads, repeatable arithmetic."""

from __future__ import annotations

import torch

from pipelines.events import EXIT_ENVIRONMENT, UserError


def prepare_device(name: str = "auto", *, threads: int | None = None) -> torch.device:
    """Choose a device and make its arithmetic repeatable.

    name: auto (cuda, else mps, else cpu), cpu, cuda, cuda:N or mps.
    threads: CPU threads of the math library; None leaves torch's own choice.
    Raises UserError when the device asked for is not there.
    """
    device = choose_device(name)
    if threads is not None:
        torch.set_num_threads(threads)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling every new tensor with NaN is a debugging aid that costs time.
        torch.utils.deterministic.fill_uninitialized_memory = False
    else:
        torch.backends.cudnn.benchmark = True
    return device


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
