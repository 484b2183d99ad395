"""Half precision: in matrix products and convolutions only, where autocast knows it to be safe."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from pipelines.events import EXIT_USAGE, UserError


def autocast_for(
    precision: str, device: torch.device
) -> Callable[[], AbstractContextManager[None]]:
    """What to run a network in, as a function that makes a fresh context each time.

    precision: float32 (as it is), float16 or bfloat16.  Raises UserError for float16 on a CPU.
    """
    if precision == "float16" and device.type == "cpu":
        raise UserError(
            "float16 needs a graphics card",
            {"device": device, "to fix": "choose float32, or bfloat16"},
            EXIT_USAGE,
        )
    dtype = getattr(torch, precision)
    return lambda: torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
