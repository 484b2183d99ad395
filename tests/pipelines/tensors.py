"""Random tensors for tests of layers, and how far results are from what they should be."""

from __future__ import annotations

import torch
from torch import Tensor


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def largest_error(found: Tensor, wanted: Tensor) -> float:
    """Of any entry, over the largest entry that is wanted."""
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())
