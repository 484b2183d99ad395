"""Names and layouts of the class project's files -> ours. Pure functions on state dicts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_WGAN = {"motion_encoder.0.": "encoder.", "linear.0.": "output.", "linear.": "output."}


def wgan_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of MotionGenerator or of MotionCritic."""
    return {_renamed(key): value for key, value in published.items()}


def wgan_key(key: str) -> str:
    """Ours for one entry of either network."""
    return _renamed(key)


def autoregressive_key(key: str) -> str:
    """Ours for one entry of the published bidirectional GRU model."""
    if key.endswith("_reverse"):
        return key.removesuffix("_reverse").replace("bi_gru.", "second.")
    return key.replace("bi_gru.", "first.").replace("fc.", "output.")


def autoregressive_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of AutoregressiveMotion; the vectors' order becomes ours, positions first."""
    return {autoregressive_key(key): reordered(key, value) for key, value in published.items()}


def reordered(key: str, value: Tensor) -> Tensor:
    """A published weight, or its gradient, for vectors in our order."""
    if "weight_ih" in key:
        return value[:, positions_first(value.shape[1])]
    if key.startswith("fc."):
        return value[positions_first(value.shape[0])]
    return value


def positions_first(vector_size: int) -> Tensor:
    """Indices that turn a vector with its jacobians first (published) into one of ours."""
    num_positions = vector_size // 3
    return torch.arange(vector_size).roll(num_positions)


def jacobians_first(vector_size: int) -> Tensor:
    """Indices that undo positions_first."""
    return positions_first(vector_size).argsort()


def _renamed(key: str) -> str:
    for published, ours in _WGAN.items():
        if key.startswith(published):
            return ours + key.removeprefix(published)
    return key
