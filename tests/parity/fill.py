"""Weights and inputs of the parity cases: pure functions of (tag, name, shape). Needs numpy only.

No pretrained checkpoint is needed to compare two implementations of one network, as long as both
are filled with the same numbers. Anyone can regenerate these: each tensor is a stream of its own,
keyed by its name. Arrays are float32 unless said otherwise.
"""

from __future__ import annotations

import hashlib
from math import prod, sqrt

import numpy as np

_CHUNK = 1 << 18  # numbers made at a time, so that the intermediate arrays stay in the cache


def uniform(
    tag: str,
    name: str,
    shape: tuple[int, ...],
    *,
    factor: float = 1.0,
    dtype: type[np.floating] = np.float64,
) -> np.ndarray:
    """Numbers in [-1, 1) times `factor`, computed in float64 and stored as `dtype`."""
    digest = hashlib.sha256(f"{tag}\0{name}".encode()).digest()
    stream = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    values = np.empty(prod(shape), dtype=dtype)
    for start in range(0, values.size, _CHUNK):
        place = values[start : start + _CHUNK]
        bits = stream.random_raw(place.size)
        bits >>= np.uint64(11)
        chunk = bits * 2.0**-52
        chunk -= 1.0
        if factor != 1.0:
            chunk *= factor
        place[...] = chunk
    return values.reshape(shape)


def weight(tag: str, name: str, shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """The value of the state-dict entry `name`. The first rule that fits decides (u: uniform):

    integer or bool dtype     1 for `initialized`, 0 otherwise (`...shuffle_idx`: see `permutation`)
    running_var               1 + 0.1 u
    running_mean              0.1 u
    weight_u, weight_v        u at unit length (vectors of the spectral norm)
    two or more dimensions    u sqrt(3 / fan_in), fan_in = all dimensions but the first
                              (keeps unit variance)
    weight, weight_g, gamma, scale      1 + 0.1 u
    anything else (biases)    0.1 u
    """
    leaf = name.rsplit(".", 1)[-1]
    if not dtype.startswith(("float", "bfloat")):
        return np.full(shape, int(leaf == "initialized"), dtype=dtype)
    if leaf in ("running_var", "running_mean"):
        value = 0.1 * uniform(tag, name, shape)
        value += 1.0 if leaf == "running_var" else 0.0
    elif leaf in ("weight_u", "weight_v"):
        value = uniform(tag, name, shape)
        value = value / np.linalg.norm(value)
    elif _is_matrix(leaf, shape):
        gain = sqrt(3.0 / max(1, prod(shape[1:])))
        value = uniform(tag, name, shape, factor=gain, dtype=np.float32)
    else:
        value = 0.1 * uniform(tag, name, shape)
        value += 1.0 if leaf in ("weight", "weight_g", "gamma", "scale") else 0.0
    return value.astype(np.float32, copy=False)


def _is_matrix(leaf: str, shape: tuple[int, ...]) -> bool:
    if sum(size != 1 for size in shape) >= 2:
        return True
    return len(shape) >= 2 and leaf.startswith("weight")


def permutation(tag: str, name: str, length: int) -> np.ndarray:
    """A permutation of range(length), int64."""
    return np.argsort(uniform(tag, name, (length,)), kind="stable").astype(np.int64)


def inputs(
    tag: str, name: str, shape: tuple[int, ...], low: float = -1.0, high: float = 1.0
) -> np.ndarray:
    """An input with values in [low, high)."""
    u = uniform(tag, f"input/{name}", shape)
    return (low + (u + 1.0) * 0.5 * (high - low)).astype(np.float32)
