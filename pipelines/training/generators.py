"""Random generators, one per meaning, all derived from the run's seed.

A generator is named by what it decides ("order", 3) and depends on nothing else, so that a draw
added in one place never shifts the draws of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_seed(seed: int, *meaning: str | int) -> int:
    """A 63-bit seed for one meaning: equal arguments, equal seed, on every platform."""
    text = "/".join(str(part) for part in (seed, *meaning))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *meaning: str | int) -> np.random.Generator:
    """A numpy generator for one meaning."""
    return np.random.Generator(np.random.PCG64(derived_seed(seed, *meaning)))


def torch_generator(
    seed: int, *meaning: str | int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator for one meaning, on the device that will draw from it."""
    return torch.Generator(device).manual_seed(derived_seed(seed, *meaning))


@contextmanager
def seeded_initialisation(seed: int, *meaning: str | int) -> Iterator[None]:
    """Within this block networks are built with weights that depend on the seed alone.

    The layers of torch draw their first weights from the global generator; this gives them a state
    of their own and puts the old one back afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(derived_seed(seed, *meaning))
        yield
