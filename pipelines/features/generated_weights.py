"""Made-up weights, the same on every machine: to try metrics out where nothing can be downloaded.

Numbers measured with them say nothing about videos, and every place that shows one says so. Each
entry is drawn from a generator of its own, named after it, so that no entry depends on another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.features.i3d import FEATURE_SIZE, MIXED
from pipelines.features.i3d_checkpoint import LAYOUTS, UNITS

_GAIN = 2.0
"""Of He et al., 2015: activations keep their size through ReLU layers."""


def i3d_variables(num_classes: int = 400) -> dict[str, np.ndarray]:
    """Variables of I3D under the names, and in the shapes, of the published TensorFlow module."""
    layout = LAYOUTS["tensorflow"]
    found = {}
    for unit in UNITS:
        kernel, channels_in, channels = _unit_shape(unit)
        stem = layout.unit(unit)
        name = stem + layout.weight
        found[name] = _scaled(name, (kernel, kernel, kernel, channels_in, channels))
        small = (1, 1, 1, 1, channels)
        found[stem + layout.beta] = 0.1 * _normal(stem + layout.beta, small)
        found[stem + layout.mean] = 0.1 * _normal(stem + layout.mean, small)
        found[stem + layout.variance] = np.ones(small, np.float32)
    weight, bias = layout.logits
    found[weight] = _scaled(weight, (1, 1, 1, FEATURE_SIZE, num_classes))
    found[bias] = 0.1 * _normal(bias, (num_classes,))
    return found


def fill(network: nn.Module) -> None:
    """Give any other network made-up weights: convolutions scaled, everything else as it is."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                fan_in = parameter[0].numel()
                values = _normal(name, tuple(parameter.shape)) * np.sqrt(_GAIN / fan_in)
                parameter.copy_(torch.from_numpy(values.astype(np.float32)))


def digest(state: Mapping[str, Tensor | np.ndarray]) -> str:
    """SHA-256 of all entries, names included."""
    found = hashlib.sha256()
    for name in sorted(state):
        found.update(name.encode())
        found.update(np.ascontiguousarray(np.asarray(state[name])).tobytes())
    return found.hexdigest()


def _unit_shape(unit: str) -> tuple[int, int, int]:
    """Kernel, channels in, channels out."""
    stem = {"conv_1a": (7, 3, 64), "conv_2b": (1, 64, 64), "conv_2c": (3, 64, 192)}
    if unit in stem:
        return stem[unit]
    block, branch = unit.split(".")
    widths, names = MIXED[block], list(MIXED)
    position = names.index(block)
    before = MIXED[names[position - 1]].total if position else 192
    shapes = {
        "0": (1, before, widths.branch0),
        "1a": (1, before, widths.reduce1),
        "1b": (3, widths.reduce1, widths.branch1),
        "2a": (1, before, widths.reduce2),
        "2b": (3, widths.reduce2, widths.branch2),
        "3b": (1, before, widths.branch3),
    }
    return shapes[branch]


def _scaled(name: str, shape: tuple[int, ...]) -> np.ndarray:
    fan_in = int(np.prod(shape[:-1]))
    return (_normal(name, shape) * np.sqrt(_GAIN / fan_in)).astype(np.float32)


def _normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
