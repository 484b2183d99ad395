"""Arithmetic that is done in 32 bits whatever precision a training is set to.

Sums of many logarithms, norms of spectral weights and batch statistics lose more by rounding than
half precision saves time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Within this block nothing is rounded to less than 32 bits."""
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        matmul.allow_tf32 = before


def widened(tensor: Tensor) -> Tensor:
    """A 16-bit tensor in 32 bits; any other as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
