"""How far apart several things are: means over all pairs of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

_Thing = TypeVar("_Thing")


def mean_over_pairs(things: Sequence[_Thing], between: Callable[[_Thing, _Thing], float]) -> float:
    """The mean of `between` over all unordered pairs; two things at least."""
    values = [between(first, second) for first, second in itertools.combinations(things, 2)]
    return sum(values) / len(values)


def mean_squared_difference(
    first: Sequence[Tensor] | Sequence[np.ndarray], second: Sequence[Tensor] | Sequence[np.ndarray]
) -> list[float]:
    """For each map of one and of the other, of the same shape: the mean of squared differences."""
    pairs = zip(first, second, strict=True)
    return [
        float((torch.as_tensor(a) - torch.as_tensor(b)).double().square().mean()) for a, b in pairs
    ]
