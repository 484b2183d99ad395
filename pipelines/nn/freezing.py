"""Networks that an update looks through without changing them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(*networks: nn.Module, when: bool = True) -> Iterator[None]:
    """Within this block the networks' weights take no gradient; their inputs still do."""
    weights = [p for each in networks for p in each.parameters() if p.requires_grad and when]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
